"""Configuration: TOML and the environment become one typed object, or one clear error."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from runtime.errors import ConfigError

T = TypeVar("T")

_LEVELS = "__"  # VITALLOOM_EDGE__BROKER__HOST is `host` in the table `broker`


def load(kind: type[T], path: Path | None, *, env_prefix: str, environment: Mapping[str, str] | None = None) -> T:
    """Read `path` (TOML), override it with the environment variables `env_prefix` + `__` + KEY, and validate it.

    Args:
        kind: the msgspec Struct that defines the permitted keys.
        path: the file; None: use the defaults and the environment alone.
        env_prefix: for instance ``VITALLOOM_EDGE``.
        environment: default: the environment of this process.

    Raises:
        ConfigError: no such file, not TOML, an unknown key, a missing key or a value of the wrong kind.
    """
    table: dict[str, Any] = {} if path is None else _read(path)
    source: Path | str = path if path is not None else "environment"
    variables = os.environ if environment is None else environment
    for name, text in sorted(variables.items()):
        if name.startswith(env_prefix + _LEVELS):
            _override(table, name, name[len(env_prefix + _LEVELS) :].lower().split(_LEVELS), text)
    try:
        return msgspec.convert(table, kind, dec_hook=_from_text)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error), source=source) from error


def _from_text(kind: type[Any], value: Any) -> Any:
    """Types that TOML does not have."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"{value!r} is not a {kind.__name__}")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such file; print a sample with --sample-config", source=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", source=path) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not TOML: {error}", source=path) from error


def _override(table: dict[str, Any], name: str, keys: list[str], text: str) -> None:
    for key in keys[:-1]:
        inner = table.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{key} is a value, not a table", source=name)
        table = inner
    table[keys[-1]] = _value(text)


def _value(text: str) -> Any:
    # Numbers and booleans as TOML writes them; everything else is a string and needs no quotes in a shell.
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
