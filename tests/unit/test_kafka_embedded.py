"""A member that is given nothing joins anew, at longer and longer intervals; one that lacks nothing doesn't."""

from pipeline.kafka_embedded import STANDSTILL, Standstill

TURN = STANDSTILL / 10


def turns(standstill: Standstill, lacking: str | None, moves: bool = False) -> int:
    """Return after how many turns of waiting the member joins anew; 0 for not within a hundred."""
    found = (n for n in range(1, 101) if standstill.is_over(moves, TURN, lambda: lacking))
    return next(found, 0)


def test_a_member_that_lacks_something_joins_anew_each_time_after_twice_as_long() -> None:
    standstill = Standstill()
    assert [turns(standstill, "messages") for _ in range(3)] == [10, 20, 40]


def test_messages_begin_the_wait_again() -> None:
    standstill = Standstill()
    assert turns(standstill, "messages") == 10
    assert turns(standstill, "messages", moves=True) == 0
    assert turns(standstill, "messages") == 10


def test_a_member_that_lacks_nothing_stays() -> None:
    standstill = Standstill()
    for _ in range(50):
        assert not standstill.is_over(False, TURN * 9, lambda: "messages")
        assert not standstill.is_over(False, TURN, lambda: None)
