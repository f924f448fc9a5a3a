"""librdkafka's producer itself, by way of ctypes: one call hands over a whole batch.

confluent-kafka brings librdkafka along, and takes messages one by one as Python objects: with the objects made, 1.6 µs of this
thread for a message of 160 bytes. `rd_kafka_produce_batch` over the memory that Arrow has them in takes 0.2, and other threads
run meanwhile. Of librdkafka only what its public header (rdkafka.h) promises is used.
"""

import ctypes
import weakref
from collections.abc import Callable, Mapping
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int32, c_size_t, c_void_p
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, cimpl

from pipeline.messages import Messages, offsets

_PRODUCER = 0  # rd_kafka_type_t
_CONF_OK = 0  # rd_kafka_conf_res_t
_COPY = 0x2  # RD_KAFKA_MSG_F_COPY: the memory is ours again when the call returns
_PURGE_ALL = 0x1 | 0x2  # RD_KAFKA_PURGE_F_QUEUE, _INFLIGHT
_ERROR_SIZE = 512

WIRE = 36
"""Bytes that librdkafka adds to a message when it looks whether it is too large: all lengths, at their longest."""

MESSAGE = np.dtype(
    [
        ("err", np.intc),
        ("rkt", np.uintp),
        ("partition", np.int32),
        ("payload", np.uintp),
        ("len", np.uintp),
        ("key", np.uintp),
        ("key_len", np.uintp),
        ("offset", np.int64),
        ("_private", np.uintp),
    ],
    align=True,
)
"""rd_kafka_message_t."""

_Delivered = CFUNCTYPE(None, c_void_p, POINTER(c_int), c_void_p)
_Log = CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_char_p)

_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "rd_kafka_conf_new": (c_void_p, []),
    "rd_kafka_conf_destroy": (None, [c_void_p]),
    "rd_kafka_conf_set": (c_int, [c_void_p, c_char_p, c_char_p, c_char_p, c_size_t]),
    "rd_kafka_conf_set_dr_msg_cb": (None, [c_void_p, _Delivered]),
    "rd_kafka_conf_set_log_cb": (None, [c_void_p, _Log]),
    "rd_kafka_new": (c_void_p, [c_int, c_void_p, c_char_p, c_size_t]),
    "rd_kafka_queue_new": (c_void_p, [c_void_p]),
    "rd_kafka_queue_poll_callback": (c_int, [c_void_p, c_int]),
    "rd_kafka_queue_destroy": (None, [c_void_p]),
    "rd_kafka_set_log_queue": (c_int, [c_void_p, c_void_p]),
    "rd_kafka_topic_new": (c_void_p, [c_void_p, c_char_p, c_void_p]),
    "rd_kafka_topic_destroy": (None, [c_void_p]),
    "rd_kafka_produce_batch": (c_int, [c_void_p, c_int32, c_int, c_void_p, c_int]),
    "rd_kafka_poll": (c_int, [c_void_p, c_int]),
    "rd_kafka_outq_len": (c_int, [c_void_p]),
    "rd_kafka_flush": (c_int, [c_void_p, c_int]),
    "rd_kafka_purge": (c_int, [c_void_p, c_int]),
    "rd_kafka_fatal_error": (c_int, [c_void_p, c_char_p, c_size_t]),
    "rd_kafka_destroy": (None, [c_void_p]),
}

Waiting = npt.NDArray[np.void]
"""Messages as librdkafka wants to be told of them: MESSAGE, with pointers into an Arrow array's memory."""


@cache
def _library() -> ctypes.CDLL:
    """Return the librdkafka that confluent-kafka is linked with, wherever it lies: its symbols are found through that one."""
    library = ctypes.CDLL(cimpl.__file__)
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def pointers(messages: Messages) -> Waiting:
    """Return where the messages lie in memory, which `messages` has to hold until they are handed over."""
    waiting = np.zeros(len(messages), MESSAGE)
    for array, start, size in ((messages.keys, "key", "key_len"), (messages.values, "payload", "len")):
        at = offsets(array)
        waiting[start] = at[:-1] + _address(array)
        waiting[size] = np.diff(at)
    return waiting


def _address(array: pa.Array) -> int:
    """Return where an array's bytes begin; never 0, which would make an empty value none at all."""
    data = array.buffers()[2]
    return int(data.address) if data is not None and data.address else MESSAGE.itemsize


class NativeProducer:
    """A producer for one thread at a time. What isn't acknowledged when it is let go of is dropped."""

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        on_failure: Callable[[KafkaError], None],
        on_log: Callable[[int, str], None],
    ) -> None:
        """`config` has librdkafka's properties; `on_failure` is called for each message that won't be delivered, `on_log`
        with a line's level and text: both while `poll` or `flush` are called. Raises KafkaException for a wrong property.
        """
        self._library = library = _library()

        def delivered(_: int, message: Any, __: int) -> None:
            if message[0]:  # its first member is the error
                on_failure(KafkaError(message[0]))

        def log(_: int, level: int, __: bytes, text: bytes) -> None:
            on_log(level, text.decode(errors="replace"))

        callbacks = _Delivered(delivered), _Log(log)
        self._client = self._make(config, *callbacks)
        self._logs = library.rd_kafka_queue_new(self._client)  # else lines of log would be counted as pending
        library.rd_kafka_set_log_queue(self._client, self._logs)
        self._topics: dict[str, int] = {}
        # The callbacks have to live as long as the client, and the client to be gone before the interpreter is.
        self._close = weakref.finalize(
            self, _destroy, library, self._client, self._logs, self._topics, callbacks
        )

    def _make(self, config: Mapping[str, Any], delivered: Any, log: Any) -> int:
        """Make librdkafka's client."""
        library, error = self._library, ctypes.create_string_buffer(_ERROR_SIZE)
        properties = library.rd_kafka_conf_new()
        for name, value in {**config, "log.queue": True}.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            if (
                library.rd_kafka_conf_set(properties, name.encode(), text.encode(), error, _ERROR_SIZE)
                != _CONF_OK
            ):
                library.rd_kafka_conf_destroy(properties)
                raise KafkaException(KafkaError(KafkaError._INVALID_ARG, error.value.decode()))
        library.rd_kafka_conf_set_dr_msg_cb(properties, delivered)
        library.rd_kafka_conf_set_log_cb(properties, log)
        client: int | None = library.rd_kafka_new(_PRODUCER, properties, error, _ERROR_SIZE)
        if client is None:
            library.rd_kafka_conf_destroy(properties)
            raise KafkaException(KafkaError(KafkaError._INVALID_ARG, error.value.decode()))
        return client

    def produce(self, topic: str, partition: int, waiting: Waiting) -> int:
        """Take messages for one partition, in order, as many as fit; return how many were taken.

        Where that isn't all, `waiting["err"]` of the others says why: the queue is full, or it can't be sent.
        """
        handle = self._topics.get(topic)
        if handle is None:
            handle = self._library.rd_kafka_topic_new(self._client, topic.encode(), None)
            if handle is None:
                raise KafkaException(KafkaError(KafkaError._INVALID_ARG, f"no topic can be called {topic!r}"))
            self._topics[topic] = handle
        return int(
            self._library.rd_kafka_produce_batch(handle, partition, _COPY, waiting.ctypes.data, len(waiting))
        )

    def poll(self, seconds: float) -> None:
        """Hear of log lines and failures, waiting for a failure at most so many seconds."""
        self._library.rd_kafka_queue_poll_callback(self._logs, 0)
        self._library.rd_kafka_poll(self._client, round(seconds * 1000))

    def flush(self, seconds: float) -> int:
        """Wait until all is acknowledged, at most so many seconds; return how many messages aren't."""
        self._library.rd_kafka_flush(self._client, round(seconds * 1000))
        self._library.rd_kafka_queue_poll_callback(self._logs, 0)
        return self.pending()

    def pending(self) -> int:
        """Return how many messages are neither acknowledged nor told of as failed."""
        return int(self._library.rd_kafka_outq_len(self._client))

    def has_died(self) -> bool:
        """Return whether it takes no message any more: it and the broker don't agree on what was sent before."""
        return bool(self._library.rd_kafka_fatal_error(self._client, None, 0))

    def purge(self) -> None:
        """Drop what isn't acknowledged; each is told of as failed."""
        self._library.rd_kafka_purge(self._client, _PURGE_ALL)


def _destroy(
    library: ctypes.CDLL, client: int, logs: int, topics: Mapping[str, int], _callbacks: object
) -> None:
    library.rd_kafka_queue_destroy(logs)
    for topic in topics.values():
        library.rd_kafka_topic_destroy(topic)
    library.rd_kafka_destroy(client)
