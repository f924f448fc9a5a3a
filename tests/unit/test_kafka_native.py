"""librdkafka is told of messages where Arrow has them, and by the names of its own header."""

import ctypes

import numpy as np
import pytest
from confluent_kafka import KafkaException

from pipeline.kafka_native import MESSAGE, NativeProducer, pointers
from pipeline.messages import Messages

KEYS, VALUES = [b"k", b"key-1", b"", b"k3"], [b"", b"value", b"\0\n", b"v" * 1000]


def found(messages: Messages) -> list[tuple[bytes, bytes]]:
    """Return what lies where `pointers` says, read as librdkafka does."""
    return [
        (
            ctypes.string_at(int(one["key"]), int(one["key_len"])),
            ctypes.string_at(int(one["payload"]), int(one["len"])),
        )
        for one in pointers(messages)
    ]


def test_every_message_is_found_in_memory() -> None:
    messages = Messages.of(KEYS, VALUES)
    assert found(messages) == list(zip(KEYS, VALUES, strict=True))


def test_parts_of_arrays_are_found_where_they_begin() -> None:
    """What is sliced or taken has its bytes further on, or elsewhere."""
    whole = Messages.of(KEYS, VALUES)
    part = Messages(whole.keys[1:], whole.values[1:])
    assert found(part) == list(zip(KEYS[1:], VALUES[1:], strict=True))
    assert found(whole.take(np.array([3, 1]))) == [(KEYS[3], VALUES[3]), (KEYS[1], VALUES[1])]
    assert found(Messages.joined([part, whole])) == list(
        zip(KEYS[1:] + KEYS, VALUES[1:] + VALUES, strict=True)
    )


def test_an_empty_value_is_no_tombstone() -> None:
    """A pointer to nothing would be one."""
    only = pointers(Messages.of([b"a", b"b"], [b"", b""]))
    assert only["payload"].all()
    assert not only["len"].any()
    assert len(pointers(Messages.joined([]))) == 0


def test_the_structure_is_that_of_the_header() -> None:
    """rd_kafka_message_t, as a C compiler lays it out."""

    class Message(ctypes.Structure):
        _fields_ = (
            ("err", ctypes.c_int),
            ("rkt", ctypes.c_void_p),
            ("partition", ctypes.c_int32),
            ("payload", ctypes.c_void_p),
            ("len", ctypes.c_size_t),
            ("key", ctypes.c_void_p),
            ("key_len", ctypes.c_size_t),
            ("offset", ctypes.c_int64),
            ("_private", ctypes.c_void_p),
        )

    assert MESSAGE.itemsize == ctypes.sizeof(Message)
    assert MESSAGE.fields is not None
    for name, _ in Message._fields_:
        assert MESSAGE.fields[name][1] == getattr(Message, name).offset, name


@pytest.mark.parametrize(
    "option",
    [{"no.such.property": "1"}, {"socket.timeout.ms": "soon"}, {"acks": "1", "enable.idempotence": True}],
)
def test_a_wrong_property_is_named(option: dict[str, object]) -> None:
    with pytest.raises(KafkaException, match=next(iter(option))):
        NativeProducer(option, on_failure=lambda _: None, on_log=lambda *_: None)
