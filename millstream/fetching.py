"""Shows how far the fetching of Kafka's jars is, on stderr: a bar on a terminal, elsewhere a line at its begin and its end."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from millstream import kafka_jars


@contextmanager
def shown_progress() -> Iterator[kafka_jars.Progress]:
    """Yield what `kafka_jars.fetch` may call; nothing is shown where nothing has to be fetched."""
    what = f"Apache Kafka {kafka_jars.version()}"
    with ExitStack() as until:
        bar: kafka_jars.Progress | None = None

        def progress(done: int, total: int) -> None:
            nonlocal bar
            if bar is None:
                bar = until.enter_context(_bar(f"fetching {what} (44 MB, once)"))
            bar(done, total)
            if done == total:
                until.close()
                print(f"fetched {what}: {total} jars", file=sys.stderr, flush=True)

        yield progress


@contextmanager
def _bar(what: str) -> Iterator[kafka_jars.Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"{what} ...", file=sys.stderr, flush=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("jars"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
