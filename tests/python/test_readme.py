"""The README shows what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_script_of_the_readme_is_the_example() -> None:
    shown = README.split("<!-- examples/kappa_distinct_merchants.py -->\n```python\n", 1)[1].split("```", 1)[0]
    assert shown == (ROOT / "examples/kappa_distinct_merchants.py").read_text()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("target", ["demo", "demo-kafka", "test", "check", "bench", "wheel"])
def test_the_makefile_has_the_targets(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
