"""Hostile payloads through a whole job: each bad one is put aside as it is, its good neighbours are all there.

The cases are those of `src/codec/tests/cases.rs`; what they decide is compared with Python's parser and DuckDB's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb

import kappa

CASES = Path(__file__).parents[1] / "data" / "json_cases.jsonl"
MEGABYTE = 1 << 20


def payload_of(case: dict[str, Any]) -> bytes:
    if "hex" in case:
        return bytes.fromhex(case["hex"])
    return "".join(text * times for text, times in case.get("parts", [[case.get("text"), 1]])).encode()


def is_good(case: dict[str, Any]) -> bool:
    return bool(case.get("good", case["case"].startswith("y_")))


def cases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in CASES.read_text().splitlines()]


def quarantined(payloads: list[bytes], schema: dict[str, Any]) -> list[bytes]:
    """Runs a job over the payloads, each between two good ones; the values of its dead letters, in the log's order."""
    good = [f'{{"at":{n},"neighbour":{n}}}'.encode() for n in range(len(payloads) + 1)]
    records = [record for pair in zip(good, payloads, strict=False) for record in pair] + [good[-1]]
    log = kappa.Log()
    log.create("t")
    log.append("t", records)
    job = kappa.Job("hostile")
    columns = {"at": kappa.Timestamp("ms"), "neighbour": kappa.Int64, **schema}
    stream = job.read("t", schema=columns, event_time="at", max_future="3650d", on_bad_record="dead_letter")
    job.write(stream)
    report = job.run(mode="reprocess", output_table="t", progress=False)
    rows = [row["neighbour"] for row in kappa.read("t")]
    assert sorted(row for row in rows if row is not None) == list(range(len(good)))
    letters = sorted(kappa.read("t__dead_letter"), key=lambda row: row["offset"])
    assert all(records[row["offset"]] == row["value"] and row["reason"] for row in letters)
    assert (report.read, report.bad, len(rows)) == (len(records), len(letters), len(records) - len(letters))
    return [row["value"] for row in letters]


def test_each_case_is_put_aside_or_used(place: Path) -> None:
    every = cases()
    bad = [payload_of(case) for case in every if not is_good(case)]
    assert quarantined([payload_of(case) for case in every], {}) == bad
    assert 250 < len(bad) < len(every)


def python_accepts(payload: bytes) -> bool:
    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        found = json.loads(payload.decode("utf-8"), parse_constant=refuse, parse_int=str)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict)


def test_python_agrees_but_for_rules_that_it_does_not_know() -> None:
    for case in cases():
        if "rule" not in case:
            assert python_accepts(payload_of(case)) == is_good(case), case["case"]


def test_duckdb_reads_what_is_good(place: Path) -> None:
    """It is more lenient, with commas at the end and comments: only what is good can be compared."""
    good = [payload_of(case).decode() for case in cases() if is_good(case) and b"\0" not in payload_of(case)]
    found = duckdb.connect().execute(
        "select text from (select unnest(?) as text) where json_type(text) is distinct from 'OBJECT'", [good]
    )
    assert found.fetchall() == []


def test_numbers_that_fit_no_column_are_put_aside(place: Path) -> None:
    numbers = {
        "i": (
            kappa.Int64,
            ["9" * 10_000, "-" + "9" * 10_000, "9223372036854775808", "1e3", "1.0", "1e400", "0." + "0" * 10_000],
        ),
        "f": (kappa.Float64, ["1e400", "-1e400", "9" * 10_000, "1e" + "9" * 10_000]),
        "d": (
            kappa.Decimal(38, 9),
            ["1e400", "9" * 10_000, "0." + "1" * 10_000, "1e-10", "1e" + "9" * 10_000, "1e-" + "9" * 10_000],
        ),
    }
    fits = {
        "i": ["-0", "9223372036854775807", "-9223372036854775808"],
        "f": ["-0", "1e-400", "0." + "0" * 10_000 + "1", "1" * 300, "0." + "3" * 10_000],
        "d": ["-0", "0e" + "9" * 10_000, "0." + "0" * 10_000, "1." + "0" * 10_000, "1e28", "100000e-14"],
    }
    bad = [f'{{"at":1,"{name}":{text}}}'.encode() for name, (_, texts) in numbers.items() for text in texts]
    good = [f'{{"at":1,"{name}":{text}}}'.encode() for name, texts in fits.items() for text in texts]
    schema = {name: data_type for name, (data_type, _) in numbers.items()}
    assert quarantined([payload for pair in zip(bad, good, strict=False) for payload in pair] + bad + good, schema) == [
        *bad[: len(good)],
        *bad,
    ]


def test_payloads_of_ten_megabytes(place: Path) -> None:
    size = 10 * MEGABYTE
    good = [
        b'{"at":1,"s":"' + b"x" * size + b'"}',
        b'{"at":1,"unused":"' + b"\\u0041" * (size // 6) + b'"}',
        b'{"at":1,"unused":[' + b"1," * (size // 2) + b"1]}",
        b'{"at":1' + b" " * size + b"}",
    ]
    bad = [
        b'{"at":1,"s":"' + b"x" * size,
        b'{"at":1,"s":"' + b"x" * size + b'\xff"}',
        b'{"at":1,"unused":[' + b"1," * (size // 2) + b"]}",
        b'{"at":1,"unused":' + b"[" * size + b"]" * size + b"}",
        b'{"at":1,"unused":' + b'{"a":' * (size // 5),
        b'{"at":1,"unused":' + b"9" * size + b"x}",
        b"\0" * size,
        b"\xef\xbb\xbf" + b'{"at":1,"s":"' + b"x" * size + b'"}',
    ]
    assert quarantined(good + bad, {"s": kappa.String}) == bad


def test_a_key_is_taken_from_any_line(place: Path) -> None:
    lines = [payload for case in cases() if b"\n" not in (payload := payload_of(case)) and payload.strip()]
    path = place.parent / "lines"
    path.write_bytes(b"\n".join(lines) + b"\n")
    log = kappa.Log()
    log.create("keyed", partitions=3)
    assert log.append_file("keyed", path, key="at") == len(lines)
    stored = sorted(record.value or b"" for record in log.scan("keyed"))
    assert stored == sorted(line.removesuffix(b"\r") for line in lines)
