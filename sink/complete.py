"""A job of which every row is there, as a result or as a reject: what publishing needs of it, wherever it lies."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.jobs import Captured, Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete(ABC):
    """A complete job.

    `duplicates` rows came again, as far as the instance knows that writes it; `rounds` is how often lost rows were asked for;
    `in_parts` says whether there may be parts of it, which are to be removed.
    """

    job: Job
    captured: Captured
    results: int
    rejected: int
    duplicates: int
    rounds: int = 0
    in_parts: bool

    @abstractmethod
    def in_order(self) -> Iterator[pa.Table]:
        """Yield the results in the input's row order, with the columns of `sink.decode.schema_of`."""

    @abstractmethod
    def rejects_in_order(self) -> Iterator[tuple[int, bytes]]:
        """Yield row numbers and values of the rejects, in the input's row order."""
