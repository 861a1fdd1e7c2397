"""Copies payments from topic to topic, with the places where they lay: `python kappa_copy.py FROM TO --mode live …`"""

import sys

import kappa

source, target = sys.argv[1:3]
job = kappa.Job("copy-payments")
payments = job.read(
    source,
    schema={"payment_id": kappa.String, "amount": kappa.Int64, "event_time": kappa.Timestamp("ms")},
    event_time="event_time",
    max_out_of_orderness="30s",
    metadata={"partition": "partition", "offset": "offset"},
)
job.write(payments, to=kappa.KafkaTopic(target))

if __name__ == "__main__":
    job.main(sys.argv[3:])
