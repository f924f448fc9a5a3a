"""Who works on a job, and how others find out."""

import pytest

from pipeline import records
from pipeline.claims import STALE, Held, Observer
from pipeline.errors import ClaimLost, PreconditionFailed, Transient, Unreachable
from pipeline.jobs import Claim
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


class LosesOne(MemoryStore):
    """Takes one write and fails nevertheless, as when all tries' answers were lost."""

    lose = False

    def put(self, key: str, data: bytes, **conditions: object) -> str:
        etag = super().put(key, data, **conditions)  # type: ignore[arg-type]
        if self.lose:
            self.lose = False
            raise Unreachable(key)
        return etag


def test_a_renewal_that_was_taken_for_failed_does_not_lose_the_claim() -> None:
    """The next one, which says more, finds another ETag than it knows: but its own nonce."""
    store = LosesOne()
    held = taken(Observer(store, KEY))
    store.lose = True
    with pytest.raises(Unreachable):
        held.renew(blocks=1)
    held.renew(blocks=2)
    held.release(blocks=3)
    assert taken(Observer(store, KEY)).claim.blocks == 3


class GoneIsNotFound(MemoryStore):
    """Answers as S3 does where a condition is on an object that isn't there."""

    def put(self, key: str, data: bytes, **conditions: object) -> str:
        if conditions.get("if_match") is not None:
            self.head(key)
        return super().put(key, data, **conditions)  # type: ignore[arg-type]


def test_a_claim_that_went_with_its_job_is_lost() -> None:
    """And not taken for an upload that is gone, nor for an assembly that failed."""
    store = GoneIsNotFound()
    held = taken(Observer(store, KEY))
    store.delete(KEY)
    with pytest.raises(ClaimLost):
        held.renew()


def test_a_claim_that_goes_while_it_is_taken_is_not_had() -> None:
    class Goes(GoneIsNotFound):
        def put(self, key: str, data: bytes, **conditions: object) -> str:
            self.delete(key)
            return super().put(key, data, **conditions)

    store = Goes()
    MemoryStore.put(store, KEY, Claim(nonce="").dump())
    assert Observer(store, KEY).take() is None


def test_a_record_that_nobody_was_first_with_is_tried_again() -> None:
    """S3 may refuse two that write at the same moment."""

    class Conflict(MemoryStore):
        def put(self, key: str, data: bytes, **conditions: object) -> str:
            raise PreconditionFailed("409 ConditionalRequestConflict")

    with pytest.raises(Transient):
        records.create(Conflict(), KEY, Claim(nonce="n"))


def test_who_could_not_give_its_claim_back_takes_it_again_at_once_and_others_wait() -> None:
    """Whoever waits for itself waits for nothing; also where it never learned that it had got it."""
    store = MemoryStore()

    def unanswered(key: str, data: bytes, **conditions: object) -> str:
        MemoryStore.put(store, key, data, **conditions)  # type: ignore[arg-type]
        raise Unreachable("no answer")

    ours, other = Observer(store, KEY), Observer(store, KEY)
    store.put = unanswered  # type: ignore[method-assign]
    with pytest.raises(Unreachable):
        ours.create()
    del store.put
    first = taken(ours)
    first.renew(blocks=3)
    assert other.take() is None
    second = taken(ours)
    assert second.claim.blocks == 3
    with pytest.raises(ClaimLost):
        first.renew()
