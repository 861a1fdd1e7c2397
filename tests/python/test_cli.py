"""The command line: exactly one document with `--json`, exit statuses, stdout and stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import kappa
from conftest import cli, command, document

RECORD = {"status": "captured", "amount": 5, "merchant_id": "m1", "event_time": 1_772_303_400_000}


def fill(records: int = 10) -> None:
    kappa.Log().create("payments", partitions=2)
    kappa.Log().append("payments", [{**RECORD, "merchant_id": f"m{i % 3}"} for i in range(records)])


def test_log_create_append_tail_describe(place: Path) -> None:
    done = cli("log", "create", "payments", "--partitions", "2", "--json")
    assert document(done)["data"] == {"topic": "payments", "partitions": 2}
    lines = "".join(json.dumps({**RECORD, "amount": i}) + "\n" for i in range(5))
    done = cli("--json", "log", "append", "payments", "-", input_=lines)
    assert document(done)["data"]["appended"] == 5
    done = cli("log", "tail", "payments", "-n", "2", "--json")
    assert len(document(done)["data"]["records"]) == 2
    done = cli("log", "describe", "--json")
    assert sum(row["records"] for row in document(done)["data"]["partitions"]) == 5
    assert "2 rows" in cli("log", "describe", "payments").stdout


def test_append_by_key_from_a_file_and_to_a_partition(place: Path, tmp_path: Path) -> None:
    kappa.Log().create("payments", partitions=4)
    file = tmp_path / "records.jsonl"
    file.write_text("".join(json.dumps({**RECORD, "merchant_id": f"m{i % 2}"}) + "\n" for i in range(100)))
    assert document(cli("log", "append", "payments", str(file), "--key", "merchant_id", "--json"))["ok"]
    by_key: dict[bytes | None, set[int]] = {}
    for record in kappa.Log().scan("payments"):
        by_key.setdefault(record.key, set()).add(record.partition)
    assert {key: len(partitions) for key, partitions in by_key.items()} == {b"m0": 1, b"m1": 1}
    assert document(cli("log", "append", "payments", str(file), "--partition", "3", "--json"))["ok"]
    assert document(cli("log", "append", "payments", str(file), "--partition", "9", "--json"))["exit"] == 2


def test_python_and_command_line_choose_the_same_partition_for_a_key(place: Path) -> None:
    kappa.Log().create("a", partitions=7)
    records = [{"k": f"key-{i}"} for i in range(50)]
    kappa.Log().append("a", records, key="k")
    cli("log", "create", "c", "--partitions", "7")
    cli("log", "append", "c", "--key", "k", input_="".join(json.dumps(r) + "\n" for r in records))
    places = [{r.key: r.partition for r in kappa.Log().scan(topic)} for topic in ("a", "c")]
    assert places[0] == places[1]


@pytest.mark.parametrize(
    ("words", "exit_", "code"),
    [
        (["log", "create", "x", "--partitions", "0"], 2, None),
        (["log", "append", "nowhere", "-"], 2, None),
        (["log", "tail", "nowhere"], 2, None),
        (["log", "frobnicate"], 2, "usage"),
        (["frobnicate"], 2, "usage"),
        (["explain", "nowhere.py"], 2, "script_not_found"),
        (["log", "describe", "--set", "log.uri=file:///x"], 2, "unknown_setting"),
        (["log", "describe", "--set", "log.url"], 2, "usage"),
        (["log", "describe", "--config", "nowhere.toml"], 2, "config_file"),
        (["log", "tail", "x", "-f"], 2, "usage"),
    ],
)
def test_failures_are_one_document_too(place: Path, words: list[str], exit_: int, code: str | None) -> None:
    done = cli(*words, "--json", input_="")
    parsed = document(done)
    assert parsed["exit"] == exit_
    assert parsed["error"]["message"]
    if code is not None:
        assert parsed["error"]["code"] == code
    assert parsed["error"]["message"] in done.stderr


def test_errors_go_to_stderr_and_nothing_to_stdout(place: Path) -> None:
    done = cli("log", "tail", "nowhere")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error[")
    assert "Traceback" not in done.stderr


def test_help_and_version() -> None:
    assert "kappa 0." in cli("--version").stdout
    assert "log" in cli("--help").stdout
    assert "COMMAND" in cli().stdout


def test_explain_and_check_load_a_script_without_running_it(place: Path, script: Callable[..., Path]) -> None:
    done = cli("explain", str(script()), "--json")
    parsed = document(done)
    assert parsed["data"]["job"] == "distinct-merchants"
    assert "payments" in parsed["data"]["plan"]
    assert document(cli("check", str(script()), "--json"))["data"]["findings"] is not None
    assert "payments" in cli("explain", f"{script()}:job").stdout
    assert document(cli("explain", f"{script()}:nobody", "--json"))["error"]["code"] == "job_not_found"


def test_a_job_explains_and_checks_itself(place: Path, script: Callable[..., Path]) -> None:
    assert "payments" in command(str(script()), "--explain").stdout
    assert command(str(script()), "--check").returncode in (0, 1)


def test_a_mistake_in_a_script_shows_its_line(place: Path, script: Callable[..., Path]) -> None:
    path = script()
    path.write_text(path.read_text().replace('col("status")', 'col("statsu")'))
    done = cli("explain", str(path))
    assert done.returncode == 2
    assert "statsu" in done.stderr
    assert "job.py, line" in done.stderr


def test_an_unguarded_main_is_refused_and_the_guard_shown(place: Path, script: Callable[..., Path]) -> None:
    path = script()
    path.write_text(path.read_text().replace('if __name__ == "__main__":\n    job.main()', "job.main()"))
    done = cli("explain", str(path), "--json")
    parsed = document(done)
    assert parsed["exit"] == 3
    assert parsed["error"]["code"] == "unguarded_main"
    assert 'if __name__ == "__main__":' in parsed["error"]["hint"]
    assert command("-c", f"import sys; sys.path.insert(0, {str(path.parent)!r}); import job").returncode != 0


@pytest.mark.parametrize(
    "words",
    [
        ["--output-table", "t"],
        ["--mode", "sideways", "--output-table", "t"],
        ["--mode", "live"],
        ["--mode", "live", "--output-table", "t", "--from", "yesterday"],
        ["--mode", "live", "--output-table", "t", "--memory", "much"],
        ["--mode", "live", "--output-table", "t", "--parallelism", "0"],
        ["--mode", "live", "--output-table", "a=t", "--output-table", "b=t"],
        ["--mode", "live", "--output-table", "t", "--checkpoint-interval", "often"],
        ["--mode", "live", "--output-table", "a.b.c d"],
        ["--mode", "live", "--output-tab", "t"],
    ],
)
def test_a_job_refuses_what_it_does_not_understand(place: Path, script: Callable[..., Path], words: list[str]) -> None:
    fill()
    done = command(str(script()), *words, "--json")
    assert document(done)["exit"] == 2


def test_doctor(place: Path) -> None:
    done = cli("doctor", "--json")
    parsed = document(done)
    assert parsed["data"]["settings"]["log.url"].startswith("file://")
    assert all(check["ok"] for check in parsed["data"]["checks"])
    bad = cli("doctor", "--set", "log.url=kafka://localhost:9092", "--json")
    assert document(bad)["exit"] == 1


def test_a_closed_pipe_is_no_error(place: Path) -> None:
    fill(5000)
    pipe = f"{sys.executable} -m kappa log tail payments -n 5000 | head -n 1"
    done = subprocess.run(pipe, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
