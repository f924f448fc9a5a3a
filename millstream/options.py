"""Settings from flags: `--set NAME=VALUE` before the command, kept until the command asks for its settings."""

import sys
from typing import TYPE_CHECKING, Any

from pipeline.printable import plain

if TYPE_CHECKING:
    from pipeline.settings import Settings

_given: list[str] = []


def remember(pairs: list[str]) -> None:
    """Keep what was given on the command line."""
    _given[:] = pairs


def given(name: str) -> str | None:
    """Return what was given for a setting, unchecked."""
    found = [
        value.strip() for key, _, value in (pair.partition("=") for pair in _given) if key.strip() == name
    ]
    return found[-1] if found else None


def quiet_settings(*, beside_up: bool = True) -> "Settings":
    """Read all settings, for a command that a person waits for: of what is logged only warnings show, unless more was asked."""
    from pipeline.logs import configure

    found = settings(beside_up=beside_up)
    level = "warning" if found.log_level == "info" else found.log_level
    configure(found.model_copy(update={"log_level": level}), "millstream")
    return found


def settings(*, beside_up: bool = True, **flags: Any) -> "Settings":
    """Read all settings: file, environment, flags, and what a running `up` says unless `beside_up` is false.

    Warns on stderr where they name another server than that `up` works with. Raises SettingsError.
    """
    from pipeline.settings import disagreement, load

    found = load(
        beside_up=beside_up, **_values() | {name: value for name, value in flags.items() if value is not None}
    )
    if beside_up and (warning := disagreement(found)):
        print(f"millstream: warning: {plain(warning)}", file=sys.stderr)
    return found


def _values() -> dict[str, Any]:
    """Return what `--set` gave, as tables."""
    from pipeline.errors import SettingsError

    values: dict[str, Any] = {}
    for pair in _given:
        name, equals, value = pair.partition("=")
        if not equals:
            raise SettingsError(f"--set {pair}: NAME=VALUE would be right, as in --set kafka=127.0.0.1:9092")
        place = values
        *folders, last = name.strip().split(".")
        for folder in folders:
            inner = place.setdefault(folder, {})
            if not isinstance(inner, dict):
                raise SettingsError(f"--set {pair}: {folder} was given a value of its own already")
            place = inner
        place[last] = value
    return values
