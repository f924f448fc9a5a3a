"""`millstream status`: where files are."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from millstream import options

if TYPE_CHECKING:
    from millstream.stores import Stores
    from pipeline.settings import Settings
    from pipeline.states import State


def command(
    name: Annotated[
        str | None, typer.Argument(help="A file's name; all files without it.", show_default=False)
    ] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="List deleted files, too.")] = False,
) -> None:
    """Say where a file is on its way, or where all files are that haven't been deleted.

    Example:  millstream status orders.csv
    """
    from millstream.stores import stores
    from pipeline.errors import NotFound
    from pipeline.names import name_of
    from pipeline.printable import flat, plain
    from pipeline.states import look

    settings = options.quiet_settings(calculations=False)
    both = stores(settings)
    if name is None:
        names = _names(both)
        width = max((len(flat(each)) for each in names), default=0)
        left_out = 0
        for each in names:
            found = look(both.uploads, both.results, each)
            if found.state == "deleted" and not deleted:
                left_out += 1
                continue
            print(f"{flat(each):<{width}}  {plain(found.summary)}")
        if left_out == len(names):
            print(f"no files{' but deleted ones' if left_out else ''}", file=sys.stderr)
        return
    state = look(both.uploads, both.results, name_of(name))
    if state.state == "unknown":
        raise NotFound(f"{name}: no upload and no result of that name; millstream status lists what there is")
    print(plain(f"{state.name}  {state.summary}"))
    if state.state == "published" and state.served is not None:
        from pipeline.reject_list import of_result

        for line in of_result(both.results, state.served):
            print(plain(line))
    if state.recomputing:
        print(plain(f"{state.name}  an older result can be fetched meanwhile"))
    if state.pending:
        _show_bars(settings, state)


def _show_bars(settings: "Settings", state: "State") -> None:
    """Show how far each stage is, as far as the stages tell."""
    from datetime import UTC, datetime

    from rich.console import Console

    from millstream.top import bars, left
    from millstream.watching import watching
    from pipeline.figures import figures

    with watching(settings) as picture:
        job = picture.job(state.file_id) if state.file_id else None
        found = figures(state, job, picture.processes(), datetime.now(UTC))
    console = Console(highlight=False)
    console.print(bars(found))
    if said := left(state, found):
        console.print(said, markup=False)


def _names(both: "Stores") -> list[str]:
    """Return the names of everything that was uploaded or taken on, in order."""
    from pipeline import layout
    from pipeline.errors import NameRefused
    from pipeline.names import name_of

    found = {head.key[len(layout.NAMES) : -len(".json")] for head in both.results.list(layout.NAMES)}
    for upload in both.uploads.list():
        try:
            found.add(name_of(upload.key))
        except NameRefused:
            continue
    return sorted(found)
