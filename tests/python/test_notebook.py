"""The notebook, run from start to end by a real kernel, and what its cells say."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "verify_shadow_table.ipynb"
TEXT, HTML = "text/plain", "text/html"


@pytest.fixture(scope="module")
def said() -> dict[str, tuple[str, str]]:
    """By cell what it says as text, and what it shows."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells), "outputs are not kept: they would be of another day"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    for cell in cells:
        assert not [out for out in cell.outputs if out.output_type == "stream" and out.name == "stderr"], cell.id
    return {cell.id: (of(cell, TEXT), of(cell, HTML)) for cell in cells}


def of(cell: nbformat.NotebookNode, kind: str) -> str:
    streams = [out.text for out in cell.outputs if out.output_type == "stream" and kind == TEXT]
    return "".join(streams) + "".join(out.data.get(kind, "") for out in cell.outputs if "data" in out)


def test_the_incident_from_start_to_end(said: dict[str, tuple[str, str]]) -> None:
    text = {name: words for name, (words, _) in said.items()}
    wrong, truth = int(text["dashboard"]), int(text["truth"])
    assert 0 < wrong < truth
    assert "shows metric.distinct_merchants_v3" in text["serve"]
    assert "certificate" in text["preview"]
    assert "nothing was promoted" in text["preview"]
    assert "DIFFERENT" in text["diff"]
    assert '(status != "captured") & (amount > 0) → (status == "captured") & (amount > 0)' in text["explain"]
    assert "metric.distinct_merchants_today shows metric.distinct_merchants_v4" in text["promote"]
    assert [int(text[cell].splitlines()[-1]) for cell in ("promote", "rollback", "again")] == [truth, wrong, truth]
    assert "metric.distinct_merchants_today shows metric.distinct_merchants_v3" in text["rollback"]
    assert "metric.distinct_merchants_v3" in text["status"]
    assert text["stop"] == "stopped stopped\n"
    assert text["end"] == "True"


def test_what_is_shown_in_it(said: dict[str, tuple[str, str]]) -> None:
    shown = {name: html for name, (_, html) in said.items()}
    for cell in ("log", "preview", "diff", "explain", "status", "collect"):
        assert shown[cell], f"{cell} shows a table"
    assert "<svg" in shown["diff"], "plots"
    for table in ("v3__preview", "v4__preview", "v4__again__preview"):
        assert f"distinct_merchants_{table}" in shown["delete"]
