"""Records on their way into the log: the JSON of a mapping, and the key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeAlias

from kappa.exceptions import DataError

RecordLike: TypeAlias = Mapping[str, Any] | bytes | str

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def encoded(record: RecordLike) -> bytes:
    """The bytes of a record. Text and bytes are not judged: what is no JSON is a bad record for whoever reads it.

    >>> encoded({"id": 1, "day": date(2026, 3, 1)})
    b'{"id":1,"day":"2026-03-01"}'
    """
    if isinstance(record, bytes):
        return record
    given: object = record
    if not isinstance(given, str | Mapping):
        raise DataError(
            f"{given!r} ({type(given).__name__}) is not a record",
            code="invalid_record",
            hint="a record is a mapping, or JSON as text or bytes",
        )
    return _utf8(given if isinstance(given, str) else _json(given))


def key_of(record: RecordLike, name: str) -> bytes | None:
    """The key of a record, as `kappa log append --key` finds it: text without its quotes, all else as it is written.

    >>> key_of({"id": 1.5}, "id"), key_of('{"id": 1.50}', "id"), key_of({"id": date(2026, 3, 1)}, "id")
    (b'1.5', b'1.50', b'2026-03-01')
    """
    if isinstance(record, Mapping):
        text = _json(record[name]) if name in record else None
    else:
        text = _field(record.decode(errors="replace") if isinstance(record, bytes) else record, name)
    if text is None:
        raise DataError(f"a record has no field {name!r} to be its key", code="missing_key", context={"field": name})
    if text == "null":
        return None
    return _utf8(json.loads(text) if text.startswith('"') else text)


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:  # NaN and infinity, keys that are no text, a circle
        message = f"a record cannot be written as JSON: {error}"
        raise DataError(message, code="invalid_record", hint="JSON has no NaN and no infinity: write None") from None


def _plain(value: object) -> Any:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise DataError(f"{value!r} has no time zone", code="naive_datetime", hint="datetime(…, tzinfo=timezone.utc)")
        return value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise DataError(f"{value!r} ({type(value).__name__}) cannot be written as JSON", code="invalid_record")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"a record is not Unicode text: {error}", code="invalid_record") from None


def _field(text: str, name: str) -> str | None:
    """A member of a JSON object as it is written; the first, if it occurs twice."""
    try:
        at = _skip(text, 0)
        while text[at] in ("{" if at == _skip(text, 0) else ","):
            member, at = _DECODER.raw_decode(text, _skip(text, at + 1))
            at = _skip(text, at)
            if text[at] != ":":
                return None
            start = _skip(text, at + 1)
            _, end = _DECODER.raw_decode(text, start)
            if member == name:
                return text[start:end]
            at = _skip(text, end)
    except (ValueError, IndexError, RecursionError):
        pass
    return None


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return at if space is None else space.end()
