"""`millstream top`: what runs, live."""

from typing import Annotated

import typer

from millstream import options


def command(
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for scripts.")] = False,
    every: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
) -> None:
    """Show what runs: files with their rates, processes with their lag, and what is in the way; until Ctrl-C.

    Where the output isn't a terminal it is shown once, or, with --json, a line a second.

    Example:  millstream top --once --json
    """
    import sys
    import time
    from json import dumps

    from rich.console import Console
    from rich.live import Live

    from millstream.stores import stores
    from millstream.top import as_json, as_tables
    from millstream.watching import Look, watching

    settings = options.quiet_settings(calculations=False)
    console = Console(width=None if sys.stdout.isatty() else 160)
    with watching(settings) as picture:
        look = Look(stores(settings), picture)
        found = look()
        if json:
            print(dumps(as_json(found)), flush=True)
            while not once:
                time.sleep(every)
                print(dumps(as_json(look())), flush=True)
        elif once or not console.is_terminal:
            console.print(as_tables(found))
        else:
            with Live(as_tables(found), console=console, screen=True, auto_refresh=False) as live:
                while True:
                    time.sleep(every)
                    live.update(as_tables(look()), refresh=True)
