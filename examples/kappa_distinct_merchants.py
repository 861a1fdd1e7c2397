import kappa
from kappa import col

job = kappa.Job("distinct-merchants")

payments = job.read(
    "payments.captured.v1",  # topic; where the log lives is configuration
    schema={
        "status": kappa.String,
        "amount": kappa.Int64,
        "merchant_id": kappa.String,
        "event_time": kappa.Timestamp("ms"),
    },
    event_time="event_time",
    max_out_of_orderness="30s",
)

daily = (
    payments.filter((col("status") == "captured") & (col("amount") > 0))
    .group_by(day=col("event_time").dt.date(time_zone="Asia/Kolkata"))
    .agg(merchants=col("merchant_id").count_distinct())
)
job.write(daily)

if __name__ == "__main__":
    job.main()  # --mode, --output-table, --from, --until, --parallelism, ...
