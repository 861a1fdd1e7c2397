"""`kappa.gc`: versions that nothing needs go, and what crashed runs have left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kappa import _kappa, collection_text, html
from kappa.exceptions import ConfigError
from kappa.settings import resolve
from kappa.units import Duration, duration_ms


class GcReport:
    """What `kappa.gc` found, and did if it was told to. In a notebook it shows itself as a table.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     report = kappa.gc()
    >>> report.versions, report.deleted_bytes
    ([], 0)
    """

    def __init__(self, found: dict[str, Any]) -> None:
        self._found = found

    @property
    def versions(self) -> list[dict[str, Any]]:
        """By version: its `tables`, the `action` (`keep`, `spare`, `condemn`, `wait`, `delete`) and `why`, `until_ms`, bytes of
        `data`, `state`, `staged` records and `orphan` files, and the `trouble` if what was to be done was not.
        """
        return [dict(version) for version in self._found["versions"]]

    @property
    def directories(self) -> list[dict[str, Any]]:
        """Directories of tables that the catalog does not have: `path`, `table`, `action`, `why`, `bytes`."""
        return [dict(directory) for directory in self._found["directories"]]

    @property
    def begun(self) -> list[dict[str, Any]]:
        """Deletions that an earlier process has begun, and that are finished first."""
        return [dict(begun) for begun in self._found["begun"]]

    @property
    def deletable_bytes(self) -> int:
        """What is to go now."""
        return int(self._found["deletable_bytes"])

    @property
    def condemned_bytes(self) -> int:
        """What is to go once the grace is over."""
        return int(self._found["condemned_bytes"])

    @property
    def deleted_bytes(self) -> int:
        """What went."""
        return int(self._found["deleted_bytes"])

    @property
    def troubles(self) -> list[str]:
        """Why something that was to be done was not."""
        return collection_text.troubles(self._found)

    def to_dict(self) -> dict[str, Any]:
        """The whole as plain values, as the `--json` document holds it."""
        return dict(self._found)

    def __str__(self) -> str:
        return collection_text.report(self._found)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, rows = collection_text.rows(self._found)
        parts = [html.pairs(collection_text.summary(self._found), [])]
        if rows:
            parts.append(html.table(head, [""] * len(head), rows, ["left", "left", "right", "left"]))
        parts += [html.note(line) for line in [*self.troubles, *collection_text.next_step(self._found)]]
        return f'<div style="color:inherit">{"".join(parts)}</div>'


def gc(
    *,
    older_than: Duration = "7d",
    apply: bool = False,
    grace: Duration = "1h",
    spare: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> GcReport:
    """Finds versions that no name shows, nor has shown within `older_than`, that were not written within it, that no job
    runs and nobody reads; and what crashed runs have left. Without `apply` nothing is changed.

    With `apply` they are condemned first: from then on `promote`, `rollback`, `diff` and jobs refuse them. A later call with
    `apply` deletes what has been condemned for `grace`, if all that is still so. `spare` takes the condemnation of a table's
    version back. Killed at any moment, the next call with `apply` finishes.

    >>> import kappa
    >>> from kappa.testing import temporary
    >>> with temporary():
    ...     kappa.Log().create("t")
    ...     job = kappa.Job("docs")
    ...     job.write(job.read("t", schema={"at": kappa.Timestamp("ms")}, event_time="at"))
    ...     _ = job.run(mode="reprocess", output_table="times_v1", progress=False)
    ...     young = kappa.gc().versions[0]
    ...     old = kappa.gc(older_than="0s").versions[0]
    >>> young["action"], young["why"], old["action"]
    ('keep', 'written lately', 'condemn')
    """
    settings = resolve(config)
    if spare is not None:
        if apply:
            raise ConfigError("spare and apply exclude each other", code="invalid_argument")
        return GcReport(json.loads(_kappa.spare(settings, spare)))
    options = {
        "older_than_ms": duration_ms(older_than, "older_than"),
        "grace_ms": duration_ms(grace, "grace"),
        "apply": apply,
    }
    return GcReport(json.loads(_kappa.gc(settings, json.dumps(options))))
