"""A large object read piece by piece is the same bytes, and no request asks for more than a piece."""

import io

from hypothesis import given
from hypothesis import strategies as st

from pipeline.s3_pieces import Pieces


class Answer(io.BytesIO):
    """The body of an answer."""


@given(
    size=st.integers(0, 200),
    piece=st.integers(1, 64),
    start=st.integers(0, 50),
    reads=st.lists(st.integers(1, 90), min_size=1, max_size=20),
)
def test_what_is_read_is_the_stretch_whatever_the_pieces_and_the_reads(
    size: int, piece: int, start: int, reads: list[int]
) -> None:
    content = bytes(range(256))[: start + size]
    asked: list[tuple[int, int]] = []
    answers = [Answer(content[start:])]

    def more(at: int, stop: int) -> Answer:
        asked.append((at, stop))
        answers.append(Answer(content[at:stop]))
        return answers[-1]

    pieces = Pieces(answers[0], start, size, piece, more)
    found, turn = b"", 0
    while data := pieces.read(reads[turn % len(reads)]):
        assert len(data) <= reads[turn % len(reads)]
        found += data
        turn += 1
    assert found == content[start:]
    assert pieces.read(10) == b""
    pieces.close()
    assert all(answer.closed for answer in answers)
    assert all(0 < stop - at <= piece for at, stop in asked)
    assert len(asked) == max(0, -(-size // piece) - 1)
