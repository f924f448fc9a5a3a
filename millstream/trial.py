"""A calculation on a file's first rows, here and now: what `millstream try` shows."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipeline.dialect import DialectOverrides
from pipeline.names import name_of
from pipeline.printable import flat
from pipeline.reasons import reasons
from pipeline.reject_list import listed
from pipeline.settings import Settings, config_file
from pipeline.states import counted
from processor.calculate import Calculated, Calculator
from processor.functions import Functions
from producer.content import merged
from producer.first_look import calculation_for
from producer.local import chunks
from producer.prepare import Prepared, prepare
from producer.reader import Block, read
from producer.spool import spool

_FURTHER = 1000
"""Rows that are computed, at least: a table of twenty seldom shows what is wrong with a file."""

_WIDEST = 40
"""Characters of a cell that are shown."""


def trial(
    path: Path, settings: Settings, rows: int, name: str | None, told: DialectOverrides
) -> Iterator[str]:
    """Yield lines of text: how the file is read, a table of what becomes of the first `rows` rows, and a summary.

    Where there are more rows, it is also said how many of the first 1,000 would be rejected, and why.

    Raises InputError or CalculationError where no job could be made of the file, Hold where a Python function can't be loaded.
    """
    name = name_of(name if name is not None else path.name)
    calculation = calculation_for(path, name, settings.calculations.values(), told.encoding)
    known = merged(calculation.dialect, told)
    with spool(chunks(path), str(path), settings.spool_folder, encoding=known.encoding) as file:
        prepared = prepare(calculation, file, known)
        bound = prepared.bound
        functions = Functions(settings.calculations.values(), config_file().parent)
        calculator = Calculator(bound, functions, memory_limit=settings.memory)
        yield f"{path}: {prepared.dialect.describe()}"
        outputs = ", ".join(f"{output} {kind.sql}" for output, kind in bound.outputs)
        yield f"calculation {bound.calculation.label}: {', '.join(bound.ids)} -> {outputs}"
        yield ""
        blocks = read(file.path, prepared.dialect, prepared.columns, block=max(rows, _FURTHER))
        block = next(blocks, None)
        if block is None:
            yield "the file has a header and no rows"
            return
        table = block.table()
        yield from _shown(block, table, calculator.run(table), prepared, rows)


def _shown(
    block: Block, table: pa.Table, calculated: Calculated, prepared: Prepared, rows: int
) -> Iterator[str]:
    bound = prepared.bound
    header = ["row", *bound.ids, *(name for name, _ in bound.outputs), "rejected because"]
    lines: dict[int, list[str]] = {}
    for place, ids, outputs in zip(
        calculated.good.tolist(), calculated.ids.to_pylist(), calculated.outputs.to_pylist(), strict=True
    ):
        row = int(block.row_numbers[place])
        values = [outputs[name] for name, _ in bound.outputs]
        lines[row] = [str(row), *ids.values(), *("NULL" if value is None else value for value in values), ""]
    ids = table.select(bound.ids).to_pylist()
    for reject in calculated.rejects:
        row = int(block.row_numbers[reject.index])
        why = (
            f"{reject.column}: {reject.error}"
            if reject.column and reject.column not in reject.error
            else reject.error
        )
        lines[row] = [str(row), *ids[reject.index].values(), *("" for _ in bound.outputs), why]
    for malformed in block.malformed:
        why = f"line {malformed.line}: {malformed.error}"
        lines[malformed.row] = [str(malformed.row), *("" for _ in (*bound.ids, *bound.outputs)), why]
    shown = sorted(lines)[:rows]
    yield from _table(header, [lines[row] for row in shown])
    yield ""
    bad = sum(bool(lines[row][-1]) for row in shown)
    yield f"{counted(len(shown), 'row')} = {counted(len(shown) - bad, 'result')} + {bad:,} rejected"
    if block.rows > len(shown):
        yield from _further(block.rows, {row: line[-1] for row, line in sorted(lines.items()) if line[-1]})


def _further(rows: int, rejects: dict[int, str]) -> Iterator[str]:
    """Say what becomes of more rows than are shown; `rejects` has the reason by row number."""
    yield f"of the first {counted(rows, 'row')}, {len(rejects) or 'none'} would be rejected"
    yield from listed(reasons(rejects))


def _table(header: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Yield aligned lines; the last column is as wide as it likes."""
    cells = [[_cell(text) for text in row[:-1]] + [flat(row[-1])] for row in rows]
    widths = [max(len(row[place]) for row in [header, *cells]) for place in range(len(header) - 1)]
    for row in [header, ["-" * width for width in [*widths, len(header[-1])]], *cells]:
        line = "  ".join(text.ljust(width) for text, width in zip(row, [*widths, 0], strict=True))
        yield line.rstrip()


def _cell(text: str) -> str:
    line = flat(text)
    return line if len(line) <= _WIDEST else line[: _WIDEST - 1] + "…"
