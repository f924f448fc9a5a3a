"""Who works on a job, and how others find out."""

import pytest

from pipeline.claims import STALE, Held, Observer
from pipeline.errors import ClaimLost, PreconditionFailed
from pipeline.store import MemoryStore

KEY = "_millstream/jobs/x/claim.json"


class Clock:
    """Seconds that pass when told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class LostAnswer(MemoryStore):
    """Writes, and then says that the condition failed: as a call made again after its answer was lost."""

    def put(self, key: str, data: bytes, **conditions: object) -> str:
        super().put(key, data, **conditions)  # type: ignore[arg-type]
        raise PreconditionFailed(key)


def taken(observer: Observer) -> Held:
    held = observer.take()
    assert held is not None
    return held


def test_the_first_gets_the_claim_and_the_second_waits() -> None:
    store = MemoryStore()
    first = taken(Observer(store, KEY))
    second = Observer(store, KEY)
    first.renew(blocks=2, rows=20)
    assert second.take() is None
    assert second.claim is not None
    assert second.claim.rows == 20
    assert second.create() is None


def test_a_claim_that_is_renewed_is_never_stale() -> None:
    store, clock = MemoryStore(), Clock()
    first = taken(Observer(store, KEY))
    second = Observer(store, KEY, now=clock)
    for beat in range(10):
        assert second.take() is None
        first.renew(blocks=beat)
        clock.now += STALE - 1


def test_a_stale_claim_is_taken_over_with_its_progress_and_its_old_holder_notices() -> None:
    store, clock = MemoryStore(), Clock()
    first = taken(Observer(store, KEY))
    first.renew(blocks=7, rows=70, malformed=1)
    second = Observer(store, KEY, now=clock)
    assert second.take() is None
    clock.now += STALE
    held = taken(second)
    assert (held.claim.blocks, held.claim.rows, held.claim.malformed) == (7, 70, 1)
    with pytest.raises(ClaimLost):
        first.renew(blocks=8)
    held.renew(blocks=8)


def test_only_one_of_two_observers_takes_a_stale_claim_over() -> None:
    store, clock = MemoryStore(), Clock()
    taken(Observer(store, KEY))
    observers = [Observer(store, KEY, now=clock) for _ in range(2)]
    assert [observer.take() for observer in observers] == [None, None]
    clock.now += STALE
    assert [observer.take() is not None for observer in observers] == [True, False]


def test_a_released_claim_is_free_at_once_and_keeps_its_progress() -> None:
    store = MemoryStore()
    taken(Observer(store, KEY)).release(blocks=3, rows=30)
    assert taken(Observer(store, KEY)).claim.rows == 30


def test_a_lost_answer_is_no_lost_claim() -> None:
    held = taken(Observer(LostAnswer(), KEY))
    held.renew(blocks=1)
    assert held.claim.blocks == 1
