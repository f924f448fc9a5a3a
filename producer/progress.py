"""What capture tells whoever watches it; how that looks is the command line's business."""

from typing import Protocol

import structlog

log = structlog.get_logger("capture")


class Progress(Protocol):
    """Told often; showing less is fine. One file at a time."""

    def say(self, text: str) -> None:
        """Something that a person should know, once."""
        ...

    def captured(self, name: str, rows: int, share: float | None) -> None:
        """So many rows are published; `share` of the file (0 to 1) where that is known."""
        ...

    def waits(self, name: str, why: str) -> None:
        """Nothing is published just now, and why; told again and again until rows are."""
        ...

    def done(self, name: str) -> None:
        """Nothing more will come about this file."""
        ...


class Logged:
    """Logs what is said, and nothing else."""

    def say(self, text: str) -> None:
        """See Progress."""
        log.info(text)

    def captured(self, name: str, rows: int, share: float | None) -> None:
        """See Progress."""

    def waits(self, name: str, why: str) -> None:
        """See Progress."""

    def done(self, name: str) -> None:
        """See Progress."""


class Silent:
    """Shows nothing."""

    def say(self, text: str) -> None:
        """See Progress."""

    def captured(self, name: str, rows: int, share: float | None) -> None:
        """See Progress."""

    def waits(self, name: str, why: str) -> None:
        """See Progress."""

    def done(self, name: str) -> None:
        """See Progress."""
