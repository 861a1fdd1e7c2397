"""Where things live: arguments, then `KAPPA_*` variables, then the nearest `kappa.toml`, then defaults under `.kappa/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kappa import _kappa
from kappa.exceptions import ConfigError

OAUTH_TOKEN = "kafka.oauth_token"
"""The key in `config` of a function that makes tokens for SASL OAUTHBEARER."""

CONFIG_FILE = "config"
"""The key in `config` that names a configuration file instead of a setting."""


def resolve(config: Mapping[str, Any] | None = None) -> _kappa.Settings:
    """The settings in force, with `config` before all else. Keys are dotted or nested: `{"log": {"url": …}}`.

    >>> resolve({"log": {"url": "file:///data/log"}}).to_dict()["log.url"]
    'file:///data/log'
    """
    found = flat(config or {})
    file = found.pop(CONFIG_FILE, None)
    token = found.pop(OAUTH_TOKEN, None)
    if token is not None and not callable(token):
        hint = "a function () -> (token, principal, end in milliseconds since 1970); tokens that expire cannot be text"
        raise ConfigError(f"{OAUTH_TOKEN} is not a function", code="invalid_argument", hint=hint)
    return _kappa.Settings(found, file, token)


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by their dotted names.

    >>> flat({"log": {"url": "file:///data/log"}, "kafka.client.id": 5})
    {'log.url': 'file:///data/log', 'kafka.client.id': '5'}
    """
    return dict(_flat("", config))


def _flat(prefix: str, config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        elif callable(value):
            yield f"{prefix}{name}", value
        elif value is not None:
            yield f"{prefix}{name}", str(value).lower() if isinstance(value, bool) else str(value)
