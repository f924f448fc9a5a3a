"""The Python functions of calculations: a worker runs only those that its own configuration names."""

import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pipeline.calculations import Calculation
from pipeline.errors import Hold


class Functions:
    """The functions of a worker's own calculations.

    What a job.json says is not enough to have code run: the worker's configuration has to have a calculation
    of the same digest, and so of the same function and version. `folder`, where the configuration lies, is
    searched for modules.
    """

    def __init__(self, calculations: Iterable[Calculation], folder: Path | None = None) -> None:
        self._own = {c.digest: c for c in calculations if c.python is not None}
        self._folder = folder

    def load(self, calculation: Calculation) -> Callable[[Any], Any]:
        """Return a calculation's function; raise Hold where this worker has no such calculation or module."""
        name = f"{calculation.label or 'a calculation'} ({calculation.python}, version {calculation.version})"
        own = self._own.get(calculation.digest)
        if own is None or own.python is None:
            raise Hold(
                f"{name} is not a calculation of this worker's configuration: give the worker the millstream.toml that "
                "the file was captured with"
            )
        module, _, attribute = own.python.partition(":")
        if self._folder is not None and str(self._folder) not in sys.path:
            sys.path.insert(0, str(self._folder))
        importlib.invalidate_caches()
        try:
            function = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # a module may raise anything while it is imported
            raise Hold(f"{name} can't be loaded: {type(error).__name__}: {error}") from error
        if not callable(function):
            raise Hold(f"{name} is no function but a {type(function).__name__}")
        return function  # type: ignore[no-any-return]
