"""The command `millstream`: its frame, and how errors look.

Each command is a module of `millstream.commands` with a function of that name. At their tops these import nothing but typer and
the standard library, so that `millstream --help` answers at once.
"""

import functools
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import typer

from millstream import options
from pipeline.printable import plain

COMMANDS = (
    "up",
    "demo",
    "init",
    "preview",
    "try",
    "push",
    "top",
    "status",
    "get",
    "verify",
    "cancel",
    "delete",
    "watch",
    "process",
    "sink",
    "serve",
)
"""In the order of the help: everything at once, a file of one's own, the stages by themselves."""

STAGES = {"watch": "capture", "process": "process", "sink": "store", "serve": "serve"}
"""Those whose stderr is a log, with what it calls them: why they end is a line of it. All others speak to a person."""


def main() -> None:
    """Run the command line."""
    _app()()


def _app() -> typer.Typer:
    # Plain help: the coloured one takes 0.2 s longer, which is most of the time that --help may take.
    app = typer.Typer(
        name="millstream",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(epilog="Example:  millstream demo")(_global_options)
    for name in COMMANDS:
        module = import_module(
            f"millstream.commands.{name}_" if name == "try" else f"millstream.commands.{name}"
        )
        app.command(name)(_presented(name, module.command))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"millstream {version('millstream')}")
        raise typer.Exit


def _global_options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_version),
    ] = False,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting for this one command, as in --set kafka=127.0.0.1:9092 --set s3.uploads=inbox.",
        ),
    ] = None,
) -> None:
    """Drop a CSV, get the computed CSV: row by row through Kafka, with a receipt that balances.

    Settings come from millstream.toml in this folder, then MILLSTREAM_* in the environment, then flags. A running `millstream
    up` in this folder is found by itself.
    """
    options.remember(setting or [])


def _presented(name: str, command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with its errors as one clear message on stderr and an exit code."""

    def complain(text: str, code: int) -> None:
        if name in STAGES:
            from pipeline.ends import report

            report("millstream", STAGES[name], text, code, options.given("log_format"))
        else:
            print(f"millstream: {plain(text)}", file=sys.stderr)

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            from pipeline.ends import INTERRUPTED

            complain("\n".join(["interrupted", *getattr(stop, "__notes__", ())]), INTERRUPTED)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # Whoever read our output has gone, as `head` does: nothing is wrong, and nothing more can be said.
            sys.stdout = None
            sys.exit(1)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            complain(f"{where}{error.strerror or error}", 1)
            sys.exit(1)
        except Exception as error:
            code = getattr(error, "exit_code", None)
            if code is None:
                from pipeline.ends import report_unforeseen

                if name in STAGES and report_unforeseen(STAGES[name], error, options.given("log_format")):
                    sys.exit(1)
                raise
            complain("\n".join([str(error), *getattr(error, "__notes__", ())]), code)
            sys.exit(code)

    return run
