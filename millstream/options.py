"""Settings from flags: `--set NAME=VALUE` before the command, kept until the command asks for its settings."""

from typing import TYPE_CHECKING, Any

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


def quiet_settings() -> "Settings":
    """Read all settings, for a command that a person waits for: of what is logged only warnings show, unless more was asked."""
    from pipeline.logs import configure

    found = settings()
    level = "warning" if found.log_level == "info" else found.log_level
    configure(found.model_copy(update={"log_level": level}), "millstream")
    return found


def settings(**flags: Any) -> "Settings":
    """Read all settings: file, environment, flags. Raises SettingsError."""
    from pipeline.errors import SettingsError
    from pipeline.settings import load

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
    return load(**values | {name: value for name, value in flags.items() if value is not None})
