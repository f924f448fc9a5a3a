"""The calculators of the jobs whose rows come by, made once per calculation and header."""

from collections import OrderedDict
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import structlog

from pipeline.bind import bind
from pipeline.errors import CalculationError, InputError
from pipeline.jobs import Job
from pipeline.settings import Settings
from processor.calculate import Calculated, Calculator, Reject
from processor.functions import Functions

log = structlog.get_logger("processor")

KEPT = 32
"""Calculators that are kept; each has a DuckDB connection of its own. The least recently used goes first."""


class Runs(Protocol):
    """What computes a table of rows."""

    def run(self, table: pa.Table) -> Calculated:
        """Compute each row."""
        ...


class Refusing:
    """Stands for a calculation that this worker doesn't run: each row is a reject that says why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def run(self, table: pa.Table) -> Calculated:
        """Reject every row."""
        rejects = [Reject(index, None, self._reason) for index in range(table.num_rows)]
        return Calculated(
            np.zeros(0, np.int64), table.slice(0, 0).select([]), table.slice(0, 0).select([]), rejects
        )


class CalculatorCache:
    """Calculators by calculation and header. Not for two threads at once."""

    def __init__(self, settings: Settings, folder: Path | None = None) -> None:
        """`folder` is where the worker's own configuration lies, and its modules with Python functions."""
        self._functions = Functions(settings.calculations.values(), folder or Path.cwd())
        self._memory = settings.memory
        self._kept: OrderedDict[tuple[str, tuple[str, ...]], Runs] = OrderedDict()

    def __call__(self, job: Job) -> Runs:
        """Return the calculator of a job; raises Hold where the worker lacks a module or a Python calculation.

        What `job.json` says is checked again: anybody who may write to the bucket could have written it.
        """
        key = (job.calculation.digest, job.columns)
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._make(job)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return found

    def _make(self, job: Job) -> Runs:
        try:
            bound = bind(job.calculation, job.columns)
        except (CalculationError, InputError) as error:
            log.warning("a job's calculation is refused", job=job.file_id, name=job.name, why=str(error))
            return Refusing(f"the calculation is refused: {error}")
        outputs = tuple((name, kind.sql) for name, kind in bound.outputs)
        if outputs != tuple((output.name, output.type) for output in job.outputs):
            declared = ", ".join(f"{output.name} {output.type}" for output in job.outputs)
            found = ", ".join(f"{name} {kind}" for name, kind in outputs)
            log.warning(
                "a job's outputs are others than captured", job=job.file_id, captured=declared, found=found
            )
            return Refusing(f"captured with outputs {declared}, and this worker computes {found}")
        return Calculator(bound, self._functions, memory_limit=self._memory)
