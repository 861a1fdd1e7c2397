"""The command line of a job: `python JOB.py --mode live|reprocess --output-table TABLE`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from types import FrameType
from typing import TYPE_CHECKING, Any

from kappa import progress
from kappa.callsite import user_frame
from kappa.document import Outcome, Parser, add_global_arguments, config_of, perform
from kappa.exceptions import ConfigError, RefusedError
from kappa.previewing import preview as previewing
from kappa.report import RunReport
from kappa.run import Run

if TYPE_CHECKING:
    from kappa.job import Job

_GUARD = 'if __name__ == "__main__":\n        job.main()'


def refuse_import() -> None:
    """Raises where `job.main()` stands at the top of a module that is being imported."""
    frame = user_frame()
    if frame is None or frame.f_code.co_name != "<module>" or frame.f_code.co_filename.startswith("<"):
        return
    if frame.f_globals.get("__name__") != "__main__":
        raise RefusedError(
            f"job.main() in {frame.f_code.co_filename}, line {frame.f_lineno}, would run the job when the script is imported",
            code="unguarded_main",
            hint=f"write:\n\n    {_GUARD}\n",
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a job."""
    job = parser.add_argument_group("job")
    job.add_argument("--mode", choices=["live", "reprocess"], help="go on where the table stands, or build it from the log")
    job.add_argument(
        "--output-table",
        metavar="[NAME=]TABLE",
        action="append",
        help="the table of the result; once per output that has no topic",
    )
    job.add_argument(
        "--from", dest="from_", metavar="POSITION", help="earliest, head, a time, 24h (ago), group:NAME, P:OFFSET,…"
    )
    job.add_argument("--until", metavar="POSITION", help="head (as it is now; the default), a time, P:OFFSET,…")
    job.add_argument("--align", metavar="TABLE", help="end where this table's newest snapshot is, to compare the two")
    job.add_argument("--follow", action="store_true", help="go on live once a reprocess has reached the head")
    job.add_argument("--replace", action="store_true", help="discard what the table holds and start again")
    job.add_argument("--take-over", action="store_true", help="ignore the lock of a process that is stopped")
    job.add_argument("--allow-gaps", action="store_true", help="go on where the log has lost records, and count them")
    job.add_argument("--force", action="store_true", help="lift the refusals that say so")
    job.add_argument("--parallelism", type=int, metavar="N", help="worker threads (the number of cores)")
    job.add_argument("--memory", default="512MiB", metavar="SIZE", help="budget for state and what is cached of it (512MiB)")
    job.add_argument("--checkpoint-interval", metavar="DURATION", help="time between checkpoints (10s)")
    job.add_argument("--max-bytes-per-second", metavar="SIZE", help="read no faster than this, for the log's other readers")
    show = parser.add_argument_group("instead of a run")
    show.add_argument("--explain", action="store_true", help="print the plan and exit")
    show.add_argument("--check", action="store_true", help="list what is unsafe to replay; exit status 1 if anything is")
    show.add_argument("--plan", action="store_true", help="say what a reprocess would read, cost and change, and exit")
    show.add_argument(
        "--preview", metavar="DURATION", help="try the plan on so much of the log's end, beside the one that serves"
    )
    show.add_argument("--certify", action="store_true", help="with --preview: run it twice, with a kill, for the same rows")
    show.add_argument(
        "--against", metavar="TABLE", help="with --plan, --preview: compare with this table's version, or a name's"
    )
    look = parser.add_argument_group("output")
    look.add_argument("--progress", choices=["auto", "bar", "lines", "none"], default="auto", help="how a run is shown (auto)")
    look.add_argument("--log-format", choices=["text", "json"], default="text", help="lines for people or for machines (text)")
    add_global_arguments(parser)


def main(job: Job, argv: Sequence[str] | argparse.Namespace | None, config: Mapping[str, Any]) -> int:
    """Parses, runs, reports; gives the exit status."""
    words = list(sys.argv[1:] if argv is None or isinstance(argv, argparse.Namespace) else argv)
    given = argv if isinstance(argv, argparse.Namespace) else None

    def action() -> Outcome:
        args = given
        if args is None:
            parser = Parser(description=f"The job {job.name}.", allow_abbrev=False)
            add_arguments(parser)
            args = parser.parse_args(words)
        if args.explain:
            return explain(job)
        if args.check:
            return check(job)
        if args.plan:
            return plan(job, args, config)
        if args.preview is not None:
            return preview(job, args, config)
        if args.against is not None or args.certify:
            option, of = ("--certify", "--preview") if args.certify else ("--against", "--plan and --preview")
            raise ConfigError(f"{option} is for {of}", code="usage")
        return execute(job, args, config)

    return perform("run", words, action)


def explain(job: Job) -> Outcome:
    """The plan."""
    text = job.explain()
    return Outcome({"job": job.name, "fingerprint": job.fingerprint, "plan": text}, text.rstrip("\n"))


def check(job: Job) -> Outcome:
    """The findings; exit status 1 if any is more than a remark."""
    findings = job.check()
    data = [asdict(finding) for finding in findings]
    text = "\n".join(map(str, findings)) or f"{job.name}: nothing found, safe to replay"
    serious = any(finding.level != "info" for finding in findings)
    return Outcome({"job": job.name, "findings": data}, text, exit=1 if serious else 0)


_STATUS = {"fine": 0, "warning": 1, "refused": 3}


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `kappa plan`."""
    parser.add_argument("--against", metavar="TABLE", help="compare with the version that this table holds")
    parser.add_argument("--from", dest="from_", metavar="POSITION", help="as for a run")
    parser.add_argument("--until", metavar="POSITION", help="as for a run")
    parser.add_argument("--parallelism", type=int, metavar="N", help="worker threads (the number of cores)")
    parser.add_argument("--memory", default="512MiB", metavar="SIZE", help="budget for state (512MiB)")


def plan(job: Job, args: argparse.Namespace, config: Mapping[str, Any]) -> Outcome:
    """What a reprocess would do; exit status 1 with a warning, 3 if it would not do what is wanted of it."""
    found = job.plan(
        args.against,
        from_=args.from_,
        until=args.until,
        parallelism=args.parallelism,
        memory=args.memory,
        config={**config, **config_of(args)},
    )
    warnings = [finding["message"] for finding in found.findings if finding["level"] != "info"]
    as_json = getattr(args, "json", False)  # the text has them already
    return Outcome(found.to_dict(), str(found), exit=_STATUS[found.verdict], warnings=warnings if as_json else [])


def preview(job: Job, args: argparse.Namespace, config: Mapping[str, Any]) -> Outcome:
    """What a full run would change; exit status 1 if anything differs, 3 if two runs gave other rows."""
    for option, given in (("--from", args.from_), ("--until", args.until), ("--align", args.align)):
        if given is not None:
            raise ConfigError(f"{option} and --preview say both what is read", code="usage", hint="leave one of them out")
    for option, is_given in (
        ("--mode live", args.mode == "live"),
        ("--follow", args.follow),
        ("--replace", args.replace),
        ("--take-over", args.take_over),
        ("--force", args.force),
        ("--checkpoint-interval", args.checkpoint_interval is not None),
    ):
        if is_given:
            hint = "leave it out; the full run may have it"
            raise ConfigError(f"{option} is for runs, and --preview is none", code="usage", hint=hint)
    with _signals() as stopper:
        try:
            found = previewing(
                job,
                args.preview,
                output_table=_tables(args.output_table),
                against=args.against,
                certify=args.certify,
                allow_gaps=args.allow_gaps,
                parallelism=args.parallelism,
                memory=args.memory,
                max_bytes_per_second=args.max_bytes_per_second,
                config={**config, **config_of(args)},
                follower=_Follower(stopper, args),
            )
        except KeyboardInterrupt:
            message = "the preview was interrupted: nothing is compared, and the next one begins anew"
            return Outcome(exit=128 + (stopper.received or signal.SIGINT), warnings=[message])
    failed = found.certificate is not None and not found.certificate["passed"]
    script = os.path.basename(sys.argv[0]) or "JOB.py"
    return Outcome(found.to_dict(), found.summary(script), exit=3 if failed else int(found.differs))


class _Follower:
    """Waits for the runs of a preview; a signal ends it."""

    def __init__(self, stopper: _Stopper, args: argparse.Namespace) -> None:
        self._stopper, self._args = stopper, args

    def follow(self, run: Run) -> RunReport:
        show = _renderer(self._args)
        self._stopper.attach(run)
        try:
            report = run.follow(show)
        finally:
            show.close()
        if report.outcome != "complete":
            raise KeyboardInterrupt
        return report

    def check(self) -> None:
        if self._stopper.received:
            raise KeyboardInterrupt


def execute(job: Job, args: argparse.Namespace, config: Mapping[str, Any]) -> Outcome:
    """Runs the job until its end or a signal."""
    if args.mode is None:
        raise ConfigError("--mode is missing", code="usage", hint="--mode live or --mode reprocess")
    show = _renderer(args)
    with _signals() as stopper:
        run = job.start(
            mode=args.mode,
            output_table=_tables(args.output_table),
            from_=args.from_,
            until=args.until,
            align=args.align,
            follow=args.follow,
            parallelism=args.parallelism,
            memory=args.memory,
            checkpoint_interval="10s" if args.checkpoint_interval is None else args.checkpoint_interval,
            max_bytes_per_second=args.max_bytes_per_second,
            replace=args.replace,
            take_over=args.take_over,
            allow_gaps=args.allow_gaps,
            force=args.force,
            config={**config, **config_of(args)},
        )
        stopper.attach(run)
        try:
            report = run.follow(show)
        finally:
            show.close()
    ends = args.mode == "reprocess" and not args.follow
    unfinished = report.outcome == "interrupted" or (ends and report.outcome != "complete")
    status = 128 + (stopper.received or signal.SIGINT) if unfinished else 0
    return Outcome({"report": report.to_dict()}, exit=int(status), warnings=report.left_out())


def _tables(given: list[str] | Mapping[str, str] | str | None) -> str | dict[str, str] | None:
    if not given:
        return None
    if isinstance(given, str | Mapping):
        return given if isinstance(given, str) else dict(given)
    pairs = [item.rpartition("=")[::2] for item in given]
    if len(pairs) == 1 and not pairs[0][0]:
        return pairs[0][1]
    if any(not name for name, _ in pairs) or len({name for name, _ in pairs}) < len(pairs):
        raise ConfigError("several tables need different names", code="usage", hint="--output-table NAME=TABLE for each output")
    return dict(pairs)


def _renderer(args: argparse.Namespace) -> progress.Renderer:
    quiet = getattr(args, "quiet", False)
    if args.log_format == "json":
        return progress.Json()
    if args.progress == "bar" or (args.progress == "auto" and not quiet and progress.on_terminal()):
        return progress.Bar(color=progress.use_color(sys.stderr, getattr(args, "color", "auto")))
    if args.progress == "none":
        return progress.Silent()
    return progress.Lines(quiet=quiet)


class _Stopper:
    """What signals do: the first asks for a last checkpoint, the second ends the process at once."""

    def __init__(self) -> None:
        self.received = 0
        self._run: Run | None = None

    def attach(self, run: Run) -> None:
        self._run = run
        if self.received:
            run.request_stop()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            if self._run is not None:
                self._run.abort()
            os._exit(128 + number)
        self.received = number
        if self._run is None:  # it is being started: `attach` will ask it to stop
            return
        name = signal.Signals(number).name
        message = f"{name}: taking a last checkpoint, then stopping (once more: stop at once; nothing is lost)"
        self._run._events.append({"event": "notice", "level": "info", "message": message, "time_ms": None})
        self._run.request_stop()


@contextlib.contextmanager
def _signals() -> Iterator[_Stopper]:
    stopper = _Stopper()
    if threading.current_thread() is not threading.main_thread():
        yield stopper
        return
    before: dict[int, Any] = {number: signal.signal(number, stopper) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopper
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
