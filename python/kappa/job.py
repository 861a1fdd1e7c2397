"""A job: a plan with a name."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias

from kappa import _kappa
from kappa.callsite import plan_error, with_location
from kappa.datatypes import DataType, fields_to_json
from kappa.exceptions import KappaError
from kappa.expr import Node
from kappa.planning import Plan, plan
from kappa.previewing import Preview, preview
from kappa.report import RunReport
from kappa.run import Mode, Run, Waiting, run_to_end, start
from kappa.stream import GroupedStream, Stream
from kappa.topic import KafkaTopic
from kappa.units import Duration, Position, duration_ms

LatePolicy: TypeAlias = Literal["keep", "drop", "dead_letter"]
BadRecordPolicy: TypeAlias = Literal["fail", "skip", "dead_letter"]
MetadataKind: TypeAlias = Literal["key", "headers", "partition", "offset", "timestamp"]


@dataclass(frozen=True)
class Finding:
    """Something that `Job.check` found: what makes a plan unsafe to replay, or worth a second look.

    >>> print(Finding(level="warning", code="wide_key", message="the key has many values", hint="group by less"))
    warning[wide_key]: the key has many values; group by less
    """

    level: Literal["info", "warning", "error"]
    code: str
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.level}[{self.code}]: {self.message}" + (f"; {self.hint}" if self.hint else "")


class Job:
    """What is computed, and under which name. The script only describes it; `main` or `run` executes it.

    >>> import kappa
    >>> from kappa import col
    >>> job = kappa.Job("daily-totals")
    >>> payments = job.read("payments", schema={"at": kappa.Timestamp("ms"), "amount": kappa.Int64}, event_time="at")
    >>> job.write(payments.group_by(day=col("at").dt.date()).agg(total=col("amount").sum()))
    >>> job
    Job("daily-totals", outputs=1)
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name or any(c.isspace() or c in '/\\"' for c in name):
            raise plan_error(
                f"{name!r} cannot be the name of a job",
                code="invalid_job_name",
                hint='use letters, digits, "-", "_" and ".": kappa.Job("distinct-merchants")',
            )
        self.name = name
        self._reads = 0
        self._outputs: list[tuple[str | None, Stream, KafkaTopic | None]] = []

    def __repr__(self) -> str:
        return f'Job("{self.name}", outputs={len(self._outputs)})'

    def read(
        self,
        topic: str,
        *,
        schema: Mapping[str, DataType],
        event_time: str,
        max_out_of_orderness: Duration = "0s",
        late: LatePolicy = "keep",
        on_bad_record: BadRecordPolicy = "fail",
        max_future: Duration = "1d",
        metadata: Mapping[str, MetadataKind] | None = None,
    ) -> Stream:
        """The records of a topic as typed rows.

        `schema` declares the columns used, `event_time` names the one that holds the time of the event. A record is late
        if it is further behind its partition's greatest event time than `max_out_of_orderness`; late records are used and
        counted unless `late` says otherwise. A record that does not fit the schema stops the job unless `on_bad_record`
        says otherwise. A record that jumps ahead by more than `max_future` does not move time by itself. `metadata` adds
        columns taken from the record instead of its payload.

        >>> import kappa
        >>> kappa.Job("docs").read(
        ...     "payments",
        ...     schema={"at": kappa.Timestamp("ms"), "amount": kappa.Int64},
        ...     event_time="at",
        ...     max_out_of_orderness="30s",
        ...     metadata={"log_offset": "offset"},
        ... )
        Stream({"at": Timestamp("ms"), "amount": Int64, "log_offset": Int64})
        """
        node: Node = {
            "id": self._reads,
            "topic": topic,
            "schema": fields_to_json(schema),
            "event_time": event_time,
            "max_out_of_orderness_ms": duration_ms(max_out_of_orderness, "max_out_of_orderness"),
            "late": _choice(late, "late", ("keep", "drop", "dead_letter")),
            "on_bad_record": _choice(on_bad_record, "on_bad_record", ("fail", "skip", "dead_letter")),
            "max_future_ms": duration_ms(max_future, "max_future"),
        }
        kinds = ("key", "headers", "partition", "offset", "timestamp")
        if metadata:
            node["metadata"] = [{"name": k, "kind": _choice(v, f"metadata {k!r}", kinds)} for k, v in metadata.items()]
        stream = Stream(self, {"read": node})
        self._reads += 1
        return stream

    def write(self, stream: Stream, *, name: str | None = None, to: KafkaTopic | None = None) -> None:
        """Makes a stream an output of the job: a table, which `--output-table` names, or the topic `to`.

        Several outputs need names; all are delivered for the same checkpoints, tables in one transaction and then each topic
        in one of its own.

        >>> import kappa
        >>> job = kappa.Job("docs")
        >>> stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
        >>> job.write(stream, name="raw")
        >>> job.write(stream.group_by("x").agg(rows=kappa.len()), name="counts", to=kappa.KafkaTopic("t.counts"))
        """
        given: object = stream
        if not isinstance(given, Stream):
            hint = "end a group_by with .agg(…)" if isinstance(given, GroupedStream) else None
            raise plan_error(f"write takes a stream, found {type(given).__name__}", code="invalid_output", hint=hint)
        if stream._job is not self:
            raise plan_error(f"the stream belongs to another job, {stream._job.name!r}", code="invalid_output")
        target: object = to
        if target is not None and not isinstance(target, KafkaTopic):
            hint = f'write(…, to=kappa.KafkaTopic("{to}"))' if isinstance(target, str) else None
            raise plan_error(f"to={target!r} is not a KafkaTopic", code="invalid_output", hint=hint)
        names = self.outputs
        if names and (name is None or None in names):
            hint = "job.write(stream, name=…)"
            raise plan_error("a job with several outputs gives each a name", code="unnamed_output", hint=hint)
        if name in names:
            raise plan_error(f"an output named {name!r} is there already", code="duplicate_output")
        try:
            _kappa.check_key(json.dumps(stream._node))
        except KappaError as error:
            raise with_location(error) from None
        self._outputs.append((name, stream, to))

    @property
    def outputs(self) -> list[str | None]:
        """The names given to `write`.

        >>> import kappa
        >>> kappa.Job("docs").outputs
        []
        """
        return [name for name, _, _ in self._outputs]

    @property
    def _table_outputs(self) -> list[str]:
        """The names of the outputs that go to tables; an unnamed one is the empty text."""
        return [name or "" for name, _, to in self._outputs if to is None]

    @property
    def fingerprint(self) -> str:
        """Identifies what is computed: the same for every way to write or run the same plan.

        >>> import kappa
        >>> job = kappa.Job("docs")
        >>> job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
        >>> job.fingerprint == job.fingerprint
        True
        """
        return _kappa.fingerprint(self.to_json())

    def to_json(self) -> str:
        """The plan in the form that is stored with its tables.

        >>> import kappa
        >>> job = kappa.Job("docs")
        >>> job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
        >>> job.to_json()[:27]
        '{"format": 1, "job": "docs"'
        """
        if not self._outputs:
            raise plan_error(f"job {self.name!r} writes nothing", code="no_output", hint="call job.write(stream)")
        outputs = []
        for name, stream, to in self._outputs:
            named = {} if name is None else {"name": name}
            outputs.append({**named, "plan": stream._node, **({} if to is None else {"to": to._node()})})
        return json.dumps({"format": 1, "job": self.name, "outputs": outputs})

    def explain(self) -> str:
        """The plan as text: what is read, each step, and what becomes of it.

        >>> import kappa
        >>> job = kappa.Job("docs")
        >>> job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
        >>> "read" in job.explain().lower()
        True
        """
        return _kappa.explain(self.to_json())

    def check(self) -> list[Finding]:
        """What makes the plan unsafe to replay or worth a second look; empty if nothing does.

        >>> import kappa
        >>> job = kappa.Job("docs")
        >>> job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
        >>> job.check()
        []
        """
        try:
            found = json.loads(_kappa.check(self.to_json()))
        except KappaError as error:
            raise with_location(error) from None
        return [Finding(**finding) for finding in found]

    def plan(
        self,
        against: str | None = None,
        *,
        from_: Position | None = None,
        until: Position | None = None,
        parallelism: int | None = None,
        memory: str | int = "512MiB",
        config: Mapping[str, Any] | None = None,
    ) -> Plan:
        """What a reprocess would read, how long it would take and what it would need, measured on a sample of the log that is
        run for a few seconds and thrown away; and what changes against the version that the table `against` holds. Nothing is
        committed. The other arguments are those of `run`.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> def totals(least):
        ...     job = kappa.Job("totals")
        ...     stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
        ...     job.write(stream.filter(kappa.col("x") > least).group_by("x").agg(rows=kappa.len()))
        ...     return job
        >>> with temporary():
        ...     kappa.Log().create("t")
        ...     _ = kappa.Log().append("t", [{"at": i, "x": i % 3} for i in range(100)])
        ...     _ = totals(0).run(mode="reprocess", output_table="v1", progress=False)
        ...     plan = totals(1).plan("v1")
        >>> plan.changes
        [{'output': None, 'what': 'filter', 'before': 'x > 0', 'after': 'x > 1'}]
        """
        return plan(self, against=against, from_=from_, until=until, parallelism=parallelism, memory=memory, config=config)

    def preview(
        self,
        last: Duration,
        *,
        output_table: str | Mapping[str, str] | None = None,
        against: str | None = None,
        certify: bool = False,
        allow_gaps: bool = False,
        parallelism: int | None = None,
        memory: str | int = "512MiB",
        max_bytes_per_second: str | int | None = None,
        config: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> Preview:
        """What the job would change, over the last hours of the log: its plan, and the stored plan of the version that serves,
        are run over the same records, back to where the group begins that holds the time of `last` ago, into tables called
        `TABLE__preview` that the next preview replaces; then they are compared, and the full run is priced. Nothing is
        promoted.

        `output_table` is the table of the full run. `against` names the version to compare with, by a name that shows it or its
        table; by itself it is the version of this job that a name shows, else the one in `output_table`. With `certify` the
        plan is run a second time, with other threads and its process killed in between, and must give the same rows: a job
        that fails gets no new version without `force`. `allow_gaps` begins where the log does, if that is later.
        `max_bytes_per_second` bounds how fast each of its runs reads, as in `run`.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("t")
        ...     _ = kappa.Log().append("t", [{"at": i * 3_600_000} for i in range(72)])
        ...     job = kappa.Job("hours")
        ...     read = job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at")
        ...     job.write(read.group_by(day=kappa.col("at").dt.date()).agg(hours=kappa.len()))
        ...     preview = job.preview("6h", output_table="hours", progress=False)
        ...     kappa.read(preview.tables[""]).to_dicts()
        [{'day': datetime.date(1970, 1, 3), 'hours': 24}]
        >>> preview.compared, preview.differs
        (False, False)
        """
        return preview(
            self,
            last,
            output_table=output_table,
            against=against,
            certify=certify,
            allow_gaps=allow_gaps,
            parallelism=parallelism,
            memory=memory,
            max_bytes_per_second=max_bytes_per_second,
            config=config,
            follower=Waiting(progress),
        )

    def start(
        self,
        *,
        mode: Mode,
        output_table: str | Mapping[str, str] | None = None,
        from_: Position | None = None,
        until: Position | None = None,
        align: str | None = None,
        follow: bool = False,
        parallelism: int | None = None,
        memory: str | int = "512MiB",
        checkpoint_interval: Duration = "10s",
        max_bytes_per_second: str | int | None = None,
        replace: bool = False,
        take_over: bool = False,
        allow_gaps: bool = False,
        force: bool = False,
        config: Mapping[str, Any] | None = None,
    ) -> Run:
        """Starts the job in the background and gives a `Run` with `.status()`, `.wait()` and `.stop()`.

        The arguments are those of `run`.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("t")
        ...     job = kappa.Job("docs")
        ...     job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
        ...     job.start(mode="reprocess", output_table="times").wait().outcome
        'complete'
        """
        return start(
            self,
            mode=mode,
            output_table=output_table,
            from_=from_,
            until=until,
            align=align,
            follow=follow,
            parallelism=parallelism,
            memory=memory,
            checkpoint_interval=checkpoint_interval,
            max_bytes_per_second=max_bytes_per_second,
            replace=replace,
            take_over=take_over,
            allow_gaps=allow_gaps,
            force=force,
            config=config,
        )

    def run(
        self,
        *,
        mode: Mode,
        output_table: str | Mapping[str, str] | None = None,
        from_: Position | None = None,
        until: Position | None = None,
        align: str | None = None,
        follow: bool = False,
        parallelism: int | None = None,
        memory: str | int = "512MiB",
        checkpoint_interval: Duration = "10s",
        max_bytes_per_second: str | int | None = None,
        replace: bool = False,
        take_over: bool = False,
        allow_gaps: bool = False,
        force: bool = False,
        config: Mapping[str, Any] | None = None,
        progress: bool | None = None,
    ) -> RunReport:
        """Runs the job to its end and reports. `mode="reprocess"` ends at the head of the log, `"live"` when it is stopped.

        An interrupt (Ctrl-C, Jupyter's stop button) takes a last checkpoint, then raises `KeyboardInterrupt`; the same call
        later goes on from there. `progress`: on a terminal and in a notebook unless `False`.

        `output_table` names the table, or one for each output by its name; outputs that go to topics have none.
        `from_` and `until` are positions in the log (the beginning, the head as it is now, or those the table was
        started with); `from_="group:NAME"` begins where a consumer group of a Kafka cluster is. `align` names a table: a
        reprocess ends where that one's newest snapshot is, so that `kappa.diff` finds the two at one position.
        `max_bytes_per_second` (a size such as `"50MiB"`) bounds how fast records are read, so that a replay leaves the
        log's caches to its other readers, `follow` goes on after the head is reached. `replace` starts a table
        anew, `take_over` ignores a stopped process's lock, `allow_gaps` goes on where the log lost records, and `force`
        lifts the refusals that name it. `config` overrides settings, for example `{"log.url": "file:///data/log"}`.

        >>> import kappa
        >>> from kappa.testing import temporary
        >>> with temporary():
        ...     kappa.Log().create("t")
        ...     appended = kappa.Log().append("t", [{"at": 0, "x": 1}, {"at": 1000, "x": 2}])
        ...     job = kappa.Job("docs")
        ...     stream = job.read("t", schema={"at": kappa.Timestamp("ms"), "x": kappa.Int64}, event_time="at")
        ...     job.write(stream.group_by(day=kappa.col("at").dt.date()).agg(total=kappa.col("x").sum()))
        ...     report = job.run(mode="reprocess", output_table="totals", progress=False)
        ...     report.read, kappa.read("totals").to_dicts()
        (2, [{'day': datetime.date(1970, 1, 1), 'total': 3}])
        """
        run = self.start(
            mode=mode,
            output_table=output_table,
            from_=from_,
            until=until,
            align=align,
            follow=follow,
            parallelism=parallelism,
            memory=memory,
            checkpoint_interval=checkpoint_interval,
            max_bytes_per_second=max_bytes_per_second,
            replace=replace,
            take_over=take_over,
            allow_gaps=allow_gaps,
            force=force,
            config=config,
        )
        return run_to_end(run, progress=progress)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Adds kappa's options to a parser of your own; pass what it parsed to `main`.

        >>> import argparse, kappa
        >>> job, parser = kappa.Job("docs"), argparse.ArgumentParser()
        >>> _ = parser.add_argument("--currency")
        >>> job.add_arguments(parser)
        >>> args = parser.parse_args(["--mode", "live", "--output-table", "t", "--currency", "DKK"])
        >>> args.mode, args.currency
        ('live', 'DKK')
        """
        from kappa.job_command import add_arguments

        add_arguments(parser)

    def main(self, argv: Sequence[str] | Namespace | None = None, *, config: Mapping[str, Any] | None = None) -> NoReturn:
        """The command line of the job: `python JOB.py --mode reprocess --output-table TABLE`. Ends the process.

        Call it under `if __name__ == "__main__":`; elsewhere at the top of a module it is refused, so that importing a
        job never runs it. `config` are settings that the script brings, below those of `--set`; a function that makes
        tokens for SASL OAUTHBEARER is one: `{"kafka.oauth_token": lambda: (token, principal, end_ms)}`.

        >>> import kappa
        >>> job = kappa.Job("docs")
        >>> job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
        >>> try:
        ...     job.main(["--mode", "sideways", "--output-table", "t"])
        ... except SystemExit as end:
        ...     end.code
        2
        """
        from kappa.job_command import main, refuse_import

        refuse_import()
        raise SystemExit(main(self, argv, config or {}))


def _choice(value: str, what: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise plan_error(f"{what}={value!r} is not understood", code="invalid_argument", hint=f"one of {', '.join(choices)}")
    return value
