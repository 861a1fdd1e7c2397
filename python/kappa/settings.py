"""Where things live: arguments, then `KAPPA_*` variables, then the nearest `kappa.toml`, then defaults under `.kappa/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kappa import _kappa

CONFIG_FILE = "config"
"""The key in `config` that names a configuration file instead of a setting."""


def resolve(config: Mapping[str, Any] | None = None) -> _kappa.Settings:
    """The settings in force, with `config` before all else. Keys are dotted or nested: `{"log": {"url": …}}`.

    >>> resolve({"log": {"url": "file:///data/log"}}).to_dict()["log.url"]
    'file:///data/log'
    """
    flat = dict(_flat("", config or {}))
    file = flat.pop(CONFIG_FILE, None)
    return _kappa.Settings(flat, file)


def _flat(prefix: str, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        elif value is not None:
            yield f"{prefix}{name}", str(value).lower() if isinstance(value, bool) else str(value)
