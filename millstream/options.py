"""Settings from flags: `--set NAME=VALUE` before the command, kept until the command asks for its settings."""

import sys
from typing import TYPE_CHECKING, Any

from pipeline.printable import flat

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


def quiet_settings(*, beside_up: bool = True, calculations: bool = True) -> "Settings":
    """Read all settings, for a command that a person waits for: of what is logged only warnings show, unless more was asked.

    A command that needs no `calculations` isn't stopped by one that can't be right: it is warned of, and there are none then.
    """
    from pipeline.errors import BadCalculation
    from pipeline.logs import configure

    try:
        found = settings(beside_up=beside_up)
    except BadCalculation as error:
        if calculations:
            raise
        found = settings(beside_up=beside_up, calculations=False)
        _warn(f"{str(error).splitlines()[0]} (not needed here; push and try stop at it)")
    level = "warning" if found.log_level == "info" else found.log_level
    configure(found.model_copy(update={"log_level": level}), "millstream")
    return found


def settings(*, beside_up: bool = True, calculations: bool = True, **flags: Any) -> "Settings":
    """Read all settings: file, environment, flags, and what a running `up` says unless `beside_up` is false.

    Without `calculations` there are none, and nothing of them is checked. Warns on stderr where the settings name another
    server than that `up` works with. Raises SettingsError.
    """
    from pipeline.settings import disagreement, load

    given = _values() | {name: value for name, value in flags.items() if value is not None}
    found = load(beside_up=beside_up, calculations=calculations, **given)
    if beside_up and (warning := disagreement(found)):
        _warn(warning)
    return found


def _warn(text: str) -> None:
    print(f"millstream: warning: {flat(text)}", file=sys.stderr)


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
