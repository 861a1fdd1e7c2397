"""Every example in a docstring runs, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import kappa

MODULES = [name for _, name, _ in pkgutil.iter_modules(kappa.__path__) if name not in ("_kappa", "__main__", "pytest_plugin")]


@pytest.mark.parametrize("name", ["", *MODULES])
def test_examples_run(name: str, place: Path) -> None:
    module = importlib.import_module(f"kappa.{name}" if name else "kappa")
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS, extraglobs={})
    assert failed == 0


def test_every_public_name_is_documented_with_an_example() -> None:
    silent = []
    for name in kappa.__all__:
        found = getattr(kappa, name)
        if name.startswith("_") or name in ("exceptions", "Duration", "Position", "Mode", "IntoExpr"):
            continue
        if isinstance(found, kappa.DataType):
            continue
        if ">>>" not in (inspect.getdoc(found) or ""):
            silent.append(name)
        if inspect.isclass(found):
            for method, value in vars(found).items():
                if not method.startswith("_") and callable(getattr(value, "fget", value)) and not inspect.getdoc(value):
                    silent.append(f"{name}.{method}")
    assert silent == []


def test_names_of_later_work_are_not_there() -> None:
    for name in ("promote", "rollback", "gc"):
        assert not hasattr(kappa, name)
