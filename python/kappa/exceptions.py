"""What can go wrong, sorted by what you do next.

| class | you |
|---|---|
| `ConfigError` | mend an argument, a variable or `kappa.toml` |
| `PlanError` | mend the job script |
| `RefusedError` | asked for something unsafe: the hint names the way forward |
| `DataError` | have a record that does not fit what the plan declares |
| `UnavailableError` | try again: something outside is away or full |
| `ConflictError` | find the other process that holds or has taken what this one wanted |
| `CorruptionError` | restore damaged bytes, or start a new version |
| `InternalError` | report a bug in kappa |

    >>> import kappa
    >>> try:
    ...     kappa.Job("")
    ... except kappa.exceptions.PlanError as error:
    ...     print(error.code)
    invalid_job_name
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "ConfigError",
    "ConflictError",
    "CorruptionError",
    "DataError",
    "InternalError",
    "KappaError",
    "PlanError",
    "RefusedError",
    "UnavailableError",
]


class KappaError(Exception):
    """The base of all errors of kappa.

    `code` is a short stable word for machines, `context` holds names and values (topic, partition, offset, column, file),
    `hint` says how to go on, and `retryable` whether the same call may succeed later without anybody doing
    anything.

    >>> error = KappaError("the catalog is locked", code="catalog", hint="try again", retryable=True)
    >>> str(error)
    'the catalog is locked; try again'
    >>> error.retryable
    True
    """

    exit_status = 70

    def __init__(
        self,
        message: str,
        *,
        code: str = "internal",
        context: Mapping[str, str] | None = None,
        hint: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.context = dict(context or {})
        self.hint = hint
        self.retryable = retryable
        self.location: str | None = None

    def __str__(self) -> str:
        names = ", ".join(f"{name}={value}" for name, value in self.context.items())
        text = f"{self.message} ({names})" if names else self.message
        if self.hint:
            text = f"{text}; {self.hint}"
        return f"{text}\n{self.location}" if self.location else text

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (type(self), self.message, self.code, self.context, self.hint, self.retryable, self.location))

    def to_dict(self) -> dict[str, Any]:
        """The error as the `--json` documents of the command line hold it.

        >>> KappaError("no such topic", code="topic_not_found", context={"topic": "payments"}).to_dict()["context"]
        {'topic': 'payments'}
        """
        return {
            "code": self.code,
            "message": self.message,
            "context": self.context,
            "hint": self.hint,
            "retryable": self.retryable,
        }


def _restore(
    kind: type[KappaError],
    message: str,
    code: str,
    context: dict[str, str],
    hint: str | None,
    retryable: bool,
    location: str | None,
) -> KappaError:
    error = kind(message, code=code, context=context, hint=hint, retryable=retryable)
    error.location = location
    return error


class ConfigError(KappaError):
    """An argument, a variable or `kappa.toml` is wrong. Exit status 2."""

    exit_status = 2


class PlanError(KappaError):
    """The job script is wrong. Raised where the plan is built, with the line. Exit status 2."""

    exit_status = 2


class RefusedError(KappaError):
    """The request was understood and is unsafe; the hint names the way forward. Exit status 3."""

    exit_status = 3


class DataError(KappaError):
    """A record does not fit what the plan declares. Exit status 4."""

    exit_status = 4


class UnavailableError(KappaError):
    """Something outside is away or full: try again. Exit status 5."""

    exit_status = 5


class ConflictError(KappaError):
    """Another process holds or has taken what this one wanted. Exit status 6."""

    exit_status = 6


class CorruptionError(KappaError):
    """Bytes on disk are not what was written. Exit status 4."""

    exit_status = 4


class InternalError(KappaError):
    """A bug in kappa: please report it. Exit status 70."""

    exit_status = 70
