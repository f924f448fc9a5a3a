"""The Faust app: one agent on the topic of row events."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import faust
import structlog
from faust.serializers.codecs import Codec
from mode import Worker as ModeWorker

from pipeline.kafka import Batch, ensure_topics
from pipeline.settings import Settings
from pipeline.store import ObjectStore
from processor.transport import QUEUED_BATCHES, BatchConsumer, BatchProducer
from processor.worker import Worker, age

log = structlog.get_logger("processor")

COMMIT_EVERY = 1.0
"""Seconds between commits; each waits until everything computed so far is delivered."""

STANDSTILL = 30.0
"""Seconds without progress, while there is lag, until the worker calls itself not ready."""


class _Whole(Codec):
    """A batch comes as it is: it is decoded by the agent, vectorised."""

    def _loads(self, s: Any) -> Any:
        return s

    def _dumps(self, obj: Any) -> Any:
        return obj


class App(faust.App):
    """A Faust app with Millstream's settings, for the transport to find."""

    millstream: Settings


def make_app(settings: Settings, results: ObjectStore) -> App:
    """Return the app; `results` is the bucket that jobs lie in."""
    app = App(
        f"{settings.topic_prefix}.processor",
        broker="millstream://" + settings.kafka.replace(",", ";millstream://"),
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_buffer_maxsize=QUEUED_BATCHES,
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
    worker = Worker(settings, results, lambda: cast(BatchProducer, app.producer))
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
                os._exit(1)

    @app.on_before_shutdown.connect
    async def stopping(*_: Any, **__: Any) -> None:
        worker.stop()

    return app


def standstill(app: App) -> float | None:
    """Return the seconds that the agent has not moved although there is lag, or None."""
    consumer = cast(BatchConsumer, app.consumer)
    return age(consumer.moved) if any(consumer.lag().values()) else None


def run(settings: Settings, results: ObjectStore) -> None:
    """Run a worker until SIGTERM or SIGINT; leaves with exit code 1 where it failed."""
    ensure_topics(settings)
    app = make_app(settings, results)
    ModeWorker(app, override_logging=False, redirect_stdouts=False, quiet=True).execute_from_commandline()
