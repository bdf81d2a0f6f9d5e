"""Promises about the follow decision, tried under every order of a writer and a follower."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobby_core._cursor import PACE_SECONDS, Cursor, Step

WRITES = (1, 2)


class World:
    """A file, its watch and the job's end: all that a writer and a follower share."""

    def __init__(self) -> None:
        self.size = 0
        self.finished = False
        self.armed = False
        self.woken = False

    def wake(self) -> None:
        """Fires the one-shot watch, if it is armed."""
        self.woken = self.woken or self.armed
        self.armed = False


def writer(world: World) -> Iterator[None]:
    """Writes, then ends; each `yield` is a moment at which the follower may run instead."""
    for count in WRITES:
        world.size += count
        yield
        world.wake()
        yield
    world.finished = True
    yield
    world.wake()
    yield


def finished_first(world: World) -> Iterator[tuple[bool, int] | None]:
    """Samples in the order that loses nothing."""
    finished = world.finished
    yield None
    size = world.size
    yield finished, size


def size_first(world: World) -> Iterator[tuple[bool, int] | None]:
    """Samples in the order in which several published followers do it."""
    size = world.size
    yield None
    finished = world.finished
    yield finished, size


Sample = Callable[[World], Iterator[tuple[bool, int] | None]]


def follower(
    world: World, cursor: Cursor, sample: Sample, *, watch_first: bool
) -> Iterator[str | None]:
    """Follows to the end as the readers do; yields "waiting" while it cannot go on."""
    armed = not watch_first
    while True:
        for seen in sample(world):
            if seen is None:
                yield None
        assert seen is not None
        finished, size = seen
        step = cursor.next_step(finished=finished, size=size)
        if step is Step.END:
            return
        if step is Step.READ:
            cursor.advance(world.size - cursor.offset, size=size, clock=lambda: 0.0)
            armed = not watch_first
        elif armed:
            if not watch_first:
                # What a naive follower does: look, and only then watch.
                yield None
                world.armed, world.woken = True, False
            while not world.woken:
                yield "waiting"
            world.woken = False
            armed = not watch_first
        else:
            world.armed, world.woken = True, False
            armed = True
        yield None


def outcome(order: Sequence[bool], sample: Sample, *, watch_first: bool = True) -> int | None:
    """Runs both in the given order (True: the writer's turn); returns the bytes read, None if hung.

    After the order is used up, both go on in turns.
    """
    world, cursor = World(), Cursor(0)
    writing, following = writer(world), follower(world, cursor, sample, watch_first=watch_first)
    written = False
    for turn in itertools.chain(order, itertools.cycle([True, False])):
        if turn:
            written = next(writing, "done") == "done"
            continue
        state = next(following, "ended")
        if state == "ended":
            return cursor.offset
        if state == "waiting" and written:
            return None
    raise AssertionError("unreachable")


ORDERS = list(itertools.product([True, False], repeat=14))


def test_no_order_of_writer_and_follower_loses_a_byte_or_hangs() -> None:
    """Finished before size, and watch before look: under every interleaving all bytes arrive."""
    assert {outcome(order, finished_first) for order in ORDERS} == {sum(WRITES)}


def test_size_before_finished_loses_the_tail() -> None:
    """The other order does lose bytes, so the test above can fail."""
    lost = {outcome(order, size_first) for order in ORDERS} - {sum(WRITES)}
    assert lost
    assert None not in lost


def test_looking_before_watching_hangs() -> None:
    """Watching only after the look misses a wake, so the test above can fail in this way too."""
    assert None in {outcome(order, finished_first, watch_first=False) for order in ORDERS}


@given(st.integers(0), st.integers(0), st.booleans())
def test_the_decision_depends_on_nothing_else(offset: int, size: int, finished: bool) -> None:
    """Behind: READ. Beyond the end: TRUNCATED. At the end: END once finished, WAIT before."""
    step = Cursor(offset).next_step(finished=finished, size=size)
    if offset < size:
        assert step is Step.READ
    elif offset > size:
        assert step is Step.TRUNCATED
    else:
        assert step is (Step.END if finished else Step.WAIT)


@given(st.integers(1, 1000), st.integers(0, 1000), st.floats(0, 1e6))
def test_only_a_follower_at_the_end_is_paced(count: int, behind: int, now: float) -> None:
    """Who reached the end lets the file grow for 2 ms; who is behind reads on at once."""
    cursor = Cursor(0)
    cursor.advance(count, size=count + behind, clock=lambda: now)
    assert cursor.offset == count
    pause = cursor.pause_seconds(now)
    assert pause == (0.0 if behind else pytest.approx(PACE_SECONDS, abs=1e-9))
    assert cursor.pause_seconds(now + 2 * PACE_SECONDS) == 0.0


def test_the_first_read_is_never_paced() -> None:
    """What is there already goes at once."""
    assert Cursor(0).pause_seconds(0.0) == 0.0
