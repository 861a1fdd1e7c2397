"""The engine, in Rust. Not a public interface: use `kappa`. Plans, options, events and reports are JSON texts."""

from collections.abc import Callable
from typing import Any, TypeAlias, final

_Record: TypeAlias = tuple[int, int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]
# partition, offset, timestamp in ms, key, value, headers

__all__ = [
    "Diff",
    "Explanation",
    "Log",
    "LogWriter",
    "RecordBatches",
    "Rows",
    "Run",
    "Settings",
    "__version__",
    "after_fork",
    "certify",
    "check",
    "check_key",
    "content",
    "diff",
    "explain",
    "explain_key",
    "extents",
    "fingerprint",
    "gc",
    "no_rows",
    "plan",
    "preview",
    "price",
    "promote",
    "read",
    "rollback",
    "schema_of",
    "serving",
    "spare",
    "start",
    "status",
    "tables",
    "topics",
    "version_in",
]

__version__: str
"""The version of the package."""

def schema_of(node: str) -> str:
    """The columns that a step of a plan gives, as a JSON list of fields. Raises `PlanError` where types do not fit."""

def check_key(node: str) -> None:
    """Whether the rows that a step of a plan gives can go to a table. Raises `PlanError` if a part of their key is gone."""

def explain(plan: str) -> str:
    """A plan as text."""

def check(plan: str) -> str:
    """What makes a plan unsafe to replay, as a JSON list of findings."""

def fingerprint(plan: str) -> str:
    """The fingerprint of the canonical plan."""

def start(plan: str, options: str, settings: Settings) -> Run:
    """Starts a job in threads of the engine."""

def after_fork() -> None:
    """To be called in a child that was forked: what its parent has locked ends with the parent."""

def extents(settings: Settings, topic: str) -> list[tuple[int, int, int]]:
    """By partition of a topic of the settings' log: its number, where it begins and ends now."""

def topics(settings: Settings) -> list[str]:
    """The topics of the settings' log."""

def read(settings: Settings, table: str, snapshot: int | None, as_of_ms: int | None, turns: int | None) -> Rows:
    """The rows of a table now, of a snapshot, at a time, or, of a name, before its last turns."""

def no_rows(settings: Settings, table: str) -> Rows:
    """No rows, with the columns of a table."""

def promote(settings: Settings, moves: list[tuple[str, str]], request: str) -> str:
    """Turns names to tables of versions; what became of them, as JSON. `request` is JSON."""

def rollback(settings: Settings, name: str) -> str:
    """Turns a name back; what became of it, as JSON."""

def serving(settings: Settings, name: str | None) -> str:
    """The names, or one of them, as a JSON list."""

def gc(settings: Settings, options: str) -> str:
    """Collects what nothing needs, or says what would be; `options` and what was found are JSON."""

def spare(settings: Settings, table: str) -> str:
    """Takes the condemnation of a table's version back; what was found, as JSON."""

def tables(settings: Settings) -> list[str]:
    """The tables of the settings' catalog, as `namespace.table`."""

def diff(settings: Settings, a: str, b: str, options: str) -> Diff:
    """Compares two tables; `options` are JSON."""

def explain_key(settings: Settings, a: str, b: str, options: str, progress: Callable[[int, int], None] | None) -> Explanation:
    """Explains a key of two tables; `options` are JSON. `progress`: records that are read, of so many."""

def plan(settings: Settings, job: str, options: str) -> str:
    """What a reprocess of a job would do, as JSON; `options` are JSON."""

def preview(settings: Settings, job: str, options: str) -> str:
    """What a preview runs, as JSON; `options` are JSON."""

def price(settings: Settings, job: str, options: str, measured: str) -> str:
    """What the full run of a previewed job would do, as JSON; `options` and `measured` are JSON."""

def content(settings: Settings, table: str) -> str:
    """The rows of a table and the hash of their multiset, as JSON."""

def version_in(settings: Settings, table: str) -> str | None:
    """The version that a table holds; `None` if it is not there, or holds none."""

def certify(settings: Settings, job: str, certificate: str) -> str:
    """Keeps the replay certificate of a plan, and gives it; both are JSON."""

def status(settings: Settings, name: str | None) -> str:
    """The versions there are, or that of one table, as JSON."""

@final
class Diff:
    """What a comparison found."""

    def report(self) -> str:
        """The numbers as JSON."""

    def changed(self) -> Rows:
        """Rows that changed."""

    def only_in_a(self) -> Rows:
        """Rows of the first table only."""

    def only_in_b(self) -> Rows:
        """Rows of the second table only."""

    def by_day(self) -> Rows:
        """Totals by day."""

@final
class Explanation:
    """Why the row of a key is not the same in two tables."""

    def report(self) -> str:
        """What was found, as JSON."""

    def records(self) -> Rows:
        """Records of the key."""

    def row_a(self) -> Rows:
        """The key's rows in the first table."""

    def row_b(self) -> Rows:
        """The key's rows in the second table."""

@final
class Settings:
    """Where things live. `overrides` come before `KAPPA_*` variables, the configuration file and the defaults."""

    def __new__(
        cls,
        overrides: dict[str, str],
        config_file: str | None = None,
        oauth_token: Callable[[], tuple[str, str, int]] | None = None,
    ) -> Settings: ...
    def to_dict(self) -> dict[str, str]:
        """The settings in force, by name, without secrets."""

@final
class Run:
    """A job that runs in threads of the engine."""

    def next_event(self, timeout_ms: int) -> str | None:
        """The next event as JSON; `None` if there is none in time."""

    def request_stop(self) -> None:
        """Asks for a last checkpoint and the end."""

    def abort(self) -> None:
        """Ends the job without a checkpoint."""

    def is_finished(self) -> bool:
        """Whether the job has ended, well or not."""

    def report(self) -> str:
        """Waits for the end and gives the report as JSON; raises the job's error if it failed."""

@final
class Rows:
    """Arrow record batches."""

    @staticmethod
    def from_arrow(data: object) -> Rows:
        """Rows of anything that has the Arrow C stream interface."""

    def num_rows(self) -> int:
        """How many rows."""

    def schema(self) -> str:
        """The columns as a JSON list of fields."""

    def slice(self, offset: int, length: int) -> Rows:
        """Some of the rows, without a copy."""

    def to_dicts(self, offset: int, length: int) -> list[dict[str, Any]]:
        """Some of the rows as dictionaries with Python's values."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The Arrow C stream interface."""

@final
class Log:
    """The log of the settings."""

    def __new__(cls, settings: Settings) -> Log: ...
    def create(self, topic: str, partitions: int, retention_ms: int | None) -> None:
        """Makes a topic."""

    def writer(self, topic: str, partition: int | None) -> LogWriter:
        """Takes the locks of all partitions, or of one, to append to them."""

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int:
        """The first offset of a partition at a time or later."""

    def scan(self, topic: str, ranges: list[tuple[int, int, int]]) -> RecordBatches:
        """The records between two offsets of each partition: (partition, from, until)."""

    def tail(self, topic: str, count: int) -> list[_Record]:
        """The last records of a topic."""

    def describe(self, topic: str | None) -> Rows:
        """The partitions of a topic, or of all topics."""

@final
class LogWriter:
    """Appends to a topic; holds its locks until it is closed."""

    def append(self, values: list[bytes], keys: list[bytes | None] | None) -> None:
        """Appends records; they are durable after `flush`."""

    def append_file(self, path: str | None, key: str | None) -> tuple[int, int]:
        """Appends the lines of a file, or of standard input, and makes them durable: how many, and how many without a key."""

    def flush(self) -> None:
        """Makes everything durable."""

    def close(self) -> None:
        """Gives the locks back. What was not flushed is gone."""

@final
class RecordBatches:
    """Records of the log, a batch at a time."""

    def next_batch(self) -> list[_Record]:
        """The next records. Empty at the end."""
