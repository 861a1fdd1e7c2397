"""The jobs of the state bench, run as scripts: distinct values of few groups, or many groups."""

from __future__ import annotations

import sys

import kappa
from kappa import col

which = sys.argv.pop(1)
job = kappa.Job(which)
visits = job.read("visits", schema={"user": kappa.String, "at": kappa.Timestamp("ms")}, event_time="at")
if which == "distinct":
    job.write(visits.group_by(day=col("at").dt.date()).agg(users=col("user").count_distinct()))
else:
    job.write(visits.group_by("user").agg(visits=kappa.len(), last=col("at").max()))

if __name__ == "__main__":
    job.main()
