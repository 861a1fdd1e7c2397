"""`kappa.promote`, `kappa.rollback`, `kappa.serving`: the names that dashboards read, and which version they show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kappa import _kappa, cutover_text
from kappa.comparison import Diff
from kappa.exceptions import ConfigError
from kappa.settings import resolve
from kappa.units import Duration, duration_ms


class Promotion:
    """What `kappa.promote` or `kappa.rollback` did. It is true if a name shows another table than before.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     kappa.Log().create("t")
    ...     job = kappa.Job("docs")
    ...     job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
    ...     _ = job.run(mode="reprocess", output_table="times_v1", progress=False)
    ...     promotion = kappa.promote("times", "times_v1")
    >>> bool(promotion), promotion.names[0]["table"]
    (True, 'default.times_v1')
    """

    def __init__(self, verb: str, found: dict[str, Any]) -> None:
        self._verb, self._found = verb, found

    @property
    def names(self) -> list[dict[str, Any]]:
        """By name: the `table` and `version` that it shows, what it showed `before`, its `snapshot_id` and `rows`, the `proof`
        that spoke for it or why there is none (`unverified`), what was `accepted`, the `view` that turns with it, and `notes`.
        """
        return [dict(name) for name in self._found["names"]]

    def __bool__(self) -> bool:
        return self._found["turn"] is not None

    def to_dict(self) -> dict[str, Any]:
        """The whole as plain values, as the `--json` document holds it."""
        return dict(self._found)

    def __str__(self) -> str:
        return cutover_text.promotion(self._verb, self._found)

    __repr__ = __str__


class Serving:
    """Names and what they show, as `kappa.serving` finds them.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     names = kappa.serving()
    >>> names.names
    []
    """

    def __init__(self, names: list[dict[str, Any]]) -> None:
        self._names = names

    @property
    def names(self) -> list[dict[str, Any]]:
        """By name: what it shows, where that is in the log, and its `turns`, the last at the end."""
        return [dict(name) for name in self._names]

    def __str__(self) -> str:
        return cutover_text.names(self._names)

    __repr__ = __str__


def promote(
    name: str | Mapping[str, str],
    table: str | None = None,
    *,
    proof: Diff | str | None = None,
    unverified: str | None = None,
    max_age: Duration = "1h",
    accept: Sequence[str] = (),
    keep_warm: bool = True,
    view: bool = False,
    config: Mapping[str, Any] | None = None,
) -> Promotion:
    """Turns a name to the table of a version, or several names at once, all or none. Readers of a name see one version or the
    other, whole. From then on each commit of the version moves the name too.

    A name that shows something already wants a `proof`: that `kappa.diff` has compared the two versions at most `max_age` ago;
    by itself the newest is found. Without one, say why (`unverified`): it is kept with the name. A version that is further back
    in the log than what it takes the place of, or that begins later, is refused unless `accept` has `"lag"`, `"history"`.

    The process of what was shown before goes on, so that a rollback is as fresh as what it replaces; with `keep_warm=False` it
    is asked to stop. With `view=True` the name gets a view beside it, `NAME__view` or as the setting `serving.view` says, which
    turns with it, for Trino and Spark.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     kappa.Log().create("t")
    ...     for table in ("v1", "v2"):
    ...         job = kappa.Job("docs")
    ...         job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
    ...         _ = job.run(mode="reprocess", output_table=table, progress=False)
    ...     _ = kappa.promote("times", "v1")
    ...     _ = kappa.promote("times", "v2", proof=kappa.diff("v1", "v2"))
    ...     kappa.serving("times").names[0]["table"]
    'default.v2'
    """
    if isinstance(name, str):
        if table is None:
            raise ConfigError("promote takes a name and a table, or a mapping of names to tables", code="invalid_argument")
        moves = [(name, table)]
    elif table is not None:
        raise ConfigError("promote takes a name and a table, or a mapping of names to tables", code="invalid_argument")
    else:
        moves = list(name.items())
    unknown = set(accept) - {"lag", "history"}
    if unknown:
        raise ConfigError(
            f"accept has {', '.join(sorted(unknown))}", code="invalid_argument", hint='it takes "lag" and "history"'
        )
    if unverified is not None and not unverified.strip():
        raise ConfigError("unverified says nothing", code="invalid_argument", hint="say why, in a few words: it is kept")
    request = {
        "proof": _proof(proof),
        "unverified": unverified,
        "max_age_ms": duration_ms(max_age, "max_age"),
        "accept": list(accept),
        "keep_warm": keep_warm,
        "view": view,
    }
    return Promotion("promote", json.loads(_kappa.promote(resolve(config), moves, json.dumps(request))))


def _proof(proof: Diff | str | None) -> str | None:
    if not isinstance(proof, Diff):
        return proof
    if proof.proof is None:
        hint = "compare two versions of kappa's, at one position of the log"
        raise ConfigError("this comparison is no proof", code="invalid_argument", hint=hint)
    return proof.proof


def rollback(name: str, *, config: Mapping[str, Any] | None = None) -> Promotion:
    """Turns a name back to the version that it showed before, at once. A promote that was rolled back is as if it had not been:
    the next rollback goes one further back.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     kappa.Log().create("t")
    ...     for table in ("v1", "v2"):
    ...         job = kappa.Job("docs")
    ...         job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
    ...         _ = job.run(mode="reprocess", output_table=table, progress=False)
    ...         _ = kappa.promote("times", table, unverified="an example")
    ...     kappa.rollback("times").names[0]["table"]
    'default.v1'
    """
    return Promotion("rollback", json.loads(_kappa.rollback(resolve(config), name)))


def serving(name: str | None = None, *, config: Mapping[str, Any] | None = None) -> Serving:
    """The names of the catalog, or one of them, with what they show and have shown.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     print(kappa.serving())
    no names yet: kappa promote NAME TABLE
    """
    return Serving(json.loads(_kappa.serving(resolve(config), name)))
