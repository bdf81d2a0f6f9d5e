"""What decides whether output is whole, and when to try again: pure."""

import random
from collections.abc import Sequence
from hashlib import sha256

import pytest
from cli_peer import end_of
from hypothesis import given
from hypothesis import strategies as st

from jobby_client import DataLossError, InternalServerError, OutputEnd, Reason, State
from jobby_client._backoff import MOST_SECONDS, Backoff
from jobby_client._resume import Resume
from jobby_client._tally import Tally
from jobby_proto.v1 import jobby_pb2 as pb

pieces = st.lists(st.binary(max_size=9), max_size=9)


def feed(tally: Tally, chunks: Sequence[bytes], start: int) -> bytes:
    """Gives it chunks that follow each other."""
    found = b""
    for chunk in chunks:
        found += tally.take(pb.GetJobOutputResponse(data=chunk, offset=start + len(found)))
    return found


@given(pieces, st.sampled_from([0, 1, 2**40]), st.booleans())
def test_what_follows_each_other_is_taken(chunks: list[bytes], start: int, known: bool) -> None:
    """However it is cut, from wherever it begins, what comes in order is given as it is."""
    tally = Tally("read", start if known else None)
    data = b"".join(chunks)
    assert feed(tally, chunks, start) == data
    assert tally.received == len(data)
    tally.take(end_of(start + len(data), sha256=b"" if start else sha256(data).digest()))
    assert tally.position == start + len(data)
    assert tally.end == OutputEnd(
        start + len(data),
        State.COMPLETED,
        0,
        Reason.EXITED,
        b"" if start else sha256(data).digest(),
    )


@given(pieces, st.integers(0, 99), st.integers(0, 99))
def test_what_is_not_due_is_an_error(chunks: list[bytes], start: int, offset: int) -> None:
    """A gap, and bytes that came before, are an error that names both places."""
    tally = Tally("read", start)
    position = start + len(feed(tally, chunks, start))
    message = pb.GetJobOutputResponse(data=b"x", offset=offset)
    if offset == position:
        assert tally.take(message) == b"x"
        return
    with pytest.raises(DataLossError, match=f"byte {position} was to come, and byte {offset} came"):
        tally.take(message)


@pytest.mark.parametrize("total", [0, 4, 6, 2**60])
def test_an_end_elsewhere_is_an_error(total: int) -> None:
    """An end that counts other bytes than those that came is none."""
    tally = Tally("read", 0)
    tally.take(pb.GetJobOutputResponse(data=b"12345"))
    end = end_of(total)
    end.offset = 5
    with pytest.raises(DataLossError, match=f"it has {total} bytes, and it ended after byte 5"):
        tally.take(end)
    assert tally.end is None


def test_a_digest_is_compared_with_what_arrived() -> None:
    """Other bytes of the same number are found, whatever the offsets say."""
    tally = Tally("read", 0)
    tally.take(pb.GetJobOutputResponse(data=b"1234"))
    with pytest.raises(DataLossError, match="SHA-256"):
        tally.take(end_of(4, sha256=sha256(b"4321").digest()))
    assert tally.end is None


def test_a_part_has_no_digest_to_compare() -> None:
    """Who begins in the middle, or reads more than has a digest, takes the end all the same."""
    for start, size in ((1, 10), (0, 131_073)):
        tally = Tally("read", start)
        feed(tally, [bytes(size)], start)
        tally.take(end_of(start + size, sha256=b"d" * 32))
        assert tally.end


def test_an_end_may_come_with_bytes() -> None:
    """A message may hold the last bytes and the end."""
    tally = Tally("read", 0)
    message = end_of(3, sha256=sha256(b"abc").digest())
    message.data, message.offset = b"abc", 0
    assert tally.take(message) == b"abc"
    assert tally.end


def test_an_end_in_no_known_state_is_an_error() -> None:
    """What the contract doesn't know is no success."""
    message = pb.GetJobOutputResponse.FromString(b"\x1a\x02\x10\x63")  # end { status: 99 }
    with pytest.raises(InternalServerError, match="unknown state"):
        Tally("read", 0).take(message)


def test_waits_grow_to_a_bound_and_are_random() -> None:
    """Each wait is drawn from nothing to a bound that doubles up to five seconds."""
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return high / 2

    backoff = Backoff(draw)
    waits = [backoff.next_seconds() for _ in range(9)]
    assert [high for _, high in drawn] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert {low for low, _ in drawn} == {0}
    assert waits == [high / 2 for _, high in drawn]
    backoff.reset()
    assert backoff.next_seconds() == 0.05


class Clock:
    """Time that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """What the time is."""
        return self.now


def resume(seconds: float) -> tuple[Resume, Clock]:
    """A Resume that always waits for as long as it may."""
    clock = Clock()
    return Resume(seconds, clock=clock, draw=lambda low, high: high), clock


def test_who_was_never_heard_is_not_tried_again() -> None:
    """The first attempt decides whether there is a server at all."""
    tries, _ = resume(60)
    tries.broke(heard=False, progress=False)
    assert not tries.known
    assert tries.next_seconds() is None


def test_zero_seconds_never_try() -> None:
    """0 ends the stream at the first break."""
    tries, _ = resume(0)
    tries.broke(heard=True, progress=True)
    assert tries.known
    assert tries.next_seconds() is None


def test_it_gives_up_so_long_after_the_last_sign_of_life() -> None:
    """The last wait ends when the time does; an answer grants all of it again."""
    tries, clock = resume(10)
    tries.broke(heard=True, progress=True)
    waited = 0.0
    while (wait := tries.next_seconds()) is not None:
        waited += wait
        clock.now += wait
        tries.opened()
        tries.broke(heard=False, progress=False)
    assert waited == pytest.approx(10)
    tries.broke(heard=True, progress=False)
    assert tries.next_seconds() is not None


def test_a_server_that_breaks_every_call_at_once_is_asked_ever_less_often() -> None:
    """Answers alone don't make the waits short; bytes do, and a connection that lasted."""
    tries, clock = resume(60)

    def attempt(*, progress: bool, lasts: float = 0.0) -> float:
        tries.opened()
        clock.now += lasts
        tries.broke(heard=True, progress=progress)
        wait = tries.next_seconds()
        assert wait is not None
        return wait

    waits = [attempt(progress=False) for _ in range(7)]
    assert waits == sorted(waits)
    assert waits[-1] == MOST_SECONDS
    assert attempt(progress=True) == 0.1
    assert attempt(progress=False) == 0.2
    assert attempt(progress=False, lasts=100) == 0.1


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_the_real_waits_are_within_their_bounds(seed: int, count: int) -> None:
    """Drawn from real chance, no wait is negative or longer than five seconds."""
    backoff = Backoff(random.Random(seed).uniform)
    assert all(0 <= backoff.next_seconds() <= MOST_SECONDS for _ in range(count))
