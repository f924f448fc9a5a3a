"""The Faust app: one agent on the topic of row events."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NoReturn, cast

import faust
import structlog
from faust.serializers.codecs import Codec
from mode import Worker as ModeWorker

from pipeline import backoff, health, metrics, runtime, traces
from pipeline.ends import ended
from pipeline.kafka import ensure_topics
from pipeline.kafka_batch import Batch
from pipeline.kafka_progress import outlet
from pipeline.leave import leave
from pipeline.settings import Settings
from pipeline.signals import Ending
from pipeline.stalls import LOOK_EVERY, Stalls
from pipeline.store import ObjectStore
from pipeline.teller import Teller, Work
from processor.transport import BatchConsumer, BatchProducer
from processor.worker import Worker

log = structlog.get_logger("processor")

COMMIT_EVERY = 1.0
"""Seconds between commits; each waits until everything computed so far is delivered."""


class _Whole(Codec):
    """A batch comes as it is: it is decoded by the agent, vectorised."""

    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, obj: Any) -> Any:
        return obj


class App(faust.App):
    """A Faust app with Millstream's settings, for the transport to find."""

    millstream: Settings
    teller: Teller
    why_not_ready: Callable[[], list[str]]
    """Tells why the worker isn't ready; nothing where it is. For any thread."""
    stalls: Stalls
    let_go: Callable[[], None]
    """Called when partitions are about to be another's: a batch that is held for its surroundings is given up."""
    go_on: Callable[[], None]
    """Called when partitions are assigned."""
    hold_nothing: Callable[[Callable[[], None]], None]
    """Called when the worker is asked to end: where a batch is held for its surroundings, what is given ends the process."""

    def _create_directories(self) -> None:
        """Make none: without tables, Faust's data directory stays empty."""


def make_app(settings: Settings, results: ObjectStore) -> App:
    """Return the app; `results` is the bucket that jobs lie in."""
    app = App(
        settings.processor_group,
        broker="millstream://" + settings.kafka.replace(",", ";millstream://"),
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_buffer_maxsize=1,
        stream_publish_on_commit=False,
        broker_commit_interval=COMMIT_EVERY,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 6,
    )
    app.millstream = settings
    topic = app.topic(
        settings.rows_topic,
        key_serializer=_Whole(),
        value_serializer=_Whole(),
        value_type=None,
        allow_empty=False,
    )
    work = Work(waits=["no partitions assigned yet"])
    teller = Teller("process", outlet(settings), lambda: work)
    worker = Worker(
        settings,
        results,
        lambda: cast(BatchProducer, app.producer),
        teller,
        lambda partition: cast(BatchConsumer, app.consumer).is_suspect(partition),
    )
    pool = ThreadPoolExecutor(1, "compute")

    @app.agent(topic, name="compute")
    async def compute(batches: Any) -> None:
        """Compute each batch on a thread of its own, so that the event loop keeps up the membership."""
        loop = asyncio.get_running_loop()
        async for batch in batches:
            try:
                await loop.run_in_executor(pool, worker.handle, cast(Batch, batch))
            except asyncio.CancelledError:
                raise
            except Exception:
                # Faust acknowledges an event whose agent raised, and the rows would be gone. Nothing is committed by a
                # process that is no more, and whoever comes next starts at this batch.
                log.exception(
                    "computing failed; leaving without a commit",
                    partition=batch.partition,
                    offset=batch.first,
                )
                leave(1)

    stalls = Stalls("process", min(settings.stall_after, settings.stall_exit), worker.row_at)
    reasons: list[str] = ["no partitions assigned yet"]
    looked = time.monotonic()

    @app.timer(LOOK_EVERY)  # type: ignore[untyped-decorator]  # Faust's
    async def look() -> None:
        """See whether the agent moves, and whether the worker has joined its group."""
        nonlocal looked
        looked = time.monotonic()
        consumer = cast(BatchConsumer, app.consumer)
        rows, size = consumer.held()
        metrics.HELD_ROWS.labels("process").set(rows)
        metrics.HELD_BYTES.labels("process").set(size)
        found = [] if consumer.assignment() or consumer.joined else ["not in the consumer group yet"]
        if worker.holding:
            found.append(f"held: {worker.holding}")
        places = consumer.places()
        for stall in stalls.look(places, looked):
            found.append(str(stall))
            if stall.in_hand and stall.seconds >= settings.stall_exit and not worker.holding:
                # Whoever comes next may have more luck.
                log.error(
                    "standing still; leaving without a commit", partition=stall.partition, offset=stall.offset
                )
                leave(1)
        reasons[:] = found
        work.partitions = [tp.partition for tp in consumer.assignment()]
        work.lag, work.waits = {partition: place.lag for partition, place in places.items()}, found

    def why_not_ready() -> list[str]:
        silent = time.monotonic() - looked
        deaf = [f"its event loop stands still for {silent:.0f} s"] if silent >= settings.stall_after else []
        return deaf + reasons

    app.teller, app.why_not_ready, app.stalls = teller, why_not_ready, stalls
    app.let_go, app.go_on, app.hold_nothing = worker.let_go, worker.go_on, worker.hold_nothing

    @app.on_before_shutdown.connect
    async def stopping(*_: Any, **__: Any) -> None:
        worker.let_go()

    return app


def run(settings: Settings, results: ObjectStore, ending: Ending) -> None:
    """Run a worker until the process is asked to end; leaves with exit code 1 where it failed."""
    runtime.tune()
    traces.configure(settings, "process")
    # From here the process ends by `leave`. Taking the interpreter down would have DuckDB's binding list what threads hold.
    waiting = ["starting"]
    app = make_app(settings, results)
    if settings.health_port is not None:
        health.serve(
            settings.http.host,
            settings.health_port,
            lambda: list(waiting) or app.why_not_ready(),
            app.stalls,
        )
    code = ended(
        "processor",
        "process",
        lambda: backoff.until_there(lambda: _check(settings, results), waiting),
        settings.log_format,
    )
    if code:
        leave(code)
    # Its timers complain of every commit that waits for a slow broker; what goes wrong is said as an error.
    logging.getLogger("mode").setLevel(logging.ERROR)
    status: object = 1
    app.teller.start()
    worker = _Quick(app, loop=app.loop, override_logging=False, redirect_stdouts=False, quiet=True)
    ending.then(worker.end)
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        status = end.code or 0
    except Exception:
        log.exception("the worker failed")
    app.teller.close()
    traces.close()
    leave(status if isinstance(status, int) else 1)


def _check(settings: Settings, results: ObjectStore) -> None:
    """Raise where the broker or the bucket can't be reached."""
    ensure_topics(settings)
    next(results.list("_millstream/none"), None)


def _abandon(app: App) -> NoReturn:
    """End a worker without finishing anything; for any thread."""
    cast(BatchConsumer, app.consumer).abandon()
    app.teller.close()  # else the page counts it among the workers for a while
    leave(0)


class _Quick(ModeWorker):
    """Faust's worker without the two seconds that it sleeps after all its services have ended."""

    _complete = False
    """Whether all services have started."""

    def end(self) -> None:
        """Stop as soon as the event loop runs, if it isn't over by then; for any thread."""
        with suppress(RuntimeError):  # it is closed: the worker is ending
            self.loop.call_soon_threadsafe(self._schedule_shutdown, signal.SIGTERM)

    def install_signal_handlers(self) -> None:
        """Install none: `pipeline.signals` listens."""

    async def on_started(self) -> None:
        """Called when all services have started; returns when they are to stop."""
        self._complete = True
        await super().on_started()

    def _schedule_shutdown(self, signal: Any) -> None:
        """Stop. A Faust that is told to while it starts goes on starting, and never ends: then what was begun comes again."""
        [app] = cast(list[App], self.services)
        if not (self._complete and cast(BatchConsumer, app.consumer).joined):
            _abandon(app)
        app.hold_nothing(lambda: _abandon(app))
        super()._schedule_shutdown(signal)

    async def _sentinel_task(self) -> None:
        return

    def _gather_all(self) -> None:
        for task in asyncio.all_tasks(loop=self.loop):
            task.cancel()
