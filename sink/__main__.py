"""`python -m sink store` and `python -m sink serve`: one sink instance, or the HTTP reader."""

import sys

from pipeline import backoff, health, logs, runtime, s3, settings, traces
from pipeline.ends import ended
from pipeline.errors import UsageError
from pipeline.kafka import ensure_topics
from pipeline.leave import leave
from pipeline.signals import Ending
from sink.store import Sink


def main(arguments: list[str]) -> None:
    """Run until SIGTERM or SIGINT."""
    match arguments:
        case ["store"]:
            with Ending() as ending:
                store(settings.load(calculations=False), ending)
                leave(0)
        case ["serve"]:
            with Ending() as ending:
                serve(ending)
                leave(0)
        case _:
            raise UsageError("python -m sink store, or python -m sink serve")


def store(chosen: settings.Settings, ending: Ending) -> None:
    """Run one sink instance until it is asked to end."""
    runtime.tune()
    logs.configure(chosen, "store")
    traces.configure(chosen, "store")
    results = s3.S3Store(s3.client(chosen.s3), chosen.s3.results)
    waiting = ["starting"]
    sink = Sink(chosen, results)
    if chosen.health_port is not None:
        health.serve(
            chosen.http.host,
            chosen.health_port,
            lambda: list(waiting) or sink.why_not_ready(),
            sink.stalls,
        )

    def services() -> None:
        ensure_topics(chosen)
        results.check()

    backoff.until_there(services, waiting)
    ending.then(sink.stop)
    sink.run()
    traces.close()


def serve(ending: Ending) -> None:
    """Run the HTTP reader until it is asked to end."""
    from sink import http_server  # noqa: PLC0415  # 15 MB that a sink instance has no use for

    chosen = settings.load()
    logs.configure(chosen, "serve")
    http_server.serve(chosen, ending, reload=settings.changed())


if __name__ == "__main__":
    stage = "serve" if sys.argv[1:] == ["serve"] else "store"
    sys.exit(ended("sink", stage, lambda: main(sys.argv[1:])))
