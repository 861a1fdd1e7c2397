"""The pytest fixture `temporary_kappa`, found through the package's entry point."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def temporary_kappa(tmp_path: Path) -> Iterator[Path]:
    """A `.kappa` of the test's own: log, catalog, warehouse and checkpoints, gone afterwards."""
    from kappa.testing import temporary

    with temporary(tmp_path) as place:
        yield place
