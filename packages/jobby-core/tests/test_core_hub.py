"""Promises about who waits on which file: against a model of the kernel, no wake is ever lost."""

from collections import deque
from collections.abc import Iterable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from watchdog.observers.inotify_c import InotifyConstants

from jobby_core._hub import Hubs, Key, Waiter

IN_MODIFY = int(InotifyConstants.IN_MODIFY)
IN_IGNORED = int(InotifyConstants.IN_IGNORED)
IN_Q_OVERFLOW = int(InotifyConstants.IN_Q_OVERFLOW)

KEYS: list[Key] = [(1, 10), (1, 11), (2, 10)]
QUEUE_LENGTH = 2
"""Of the model's kernel; short, so that it overflows often."""


class Mark:
    """A one-shot watch in the kernel: alive, or fired and about to be destroyed."""

    def __init__(self, wd: int) -> None:
        self.wd = wd
        self.alive = True


class Kernel:
    """Does what inotify(7) does with one-shot watches, and what the race of its marks adds."""

    def __init__(self) -> None:
        self.marks: dict[Key, Mark] = {}
        self.queue: deque[tuple[int, int]] = deque()
        self._last_wd = 0

    def add_watch(self, key: Key) -> int:
        """Finds a dying mark too, and then returns its descriptor: that watch never fires."""
        if key not in self.marks:
            self._last_wd += 1
            self.marks[key] = Mark(self._last_wd)
        return self.marks[key].wd

    def rm_watch(self, wd: int) -> None:
        """Removes the mark, if it is still there; otherwise EINVAL, which says nothing new."""
        for key, mark in list(self.marks.items()):
            if mark.wd == wd:
                self.destroy(key)

    def write(self, key: Key) -> None:
        """Fires a live mark, which dies of it."""
        mark = self.marks.get(key)
        if mark is not None and mark.alive:
            mark.alive = False
            self._tell(mark.wd, IN_MODIFY)

    def destroy(self, key: Key) -> None:
        """Ends a mark; IN_IGNORED says so."""
        self._tell(self.marks.pop(key).wd, IN_IGNORED)

    def _tell(self, wd: int, mask: int) -> None:
        if len(self.queue) < QUEUE_LENGTH:
            self.queue.append((wd, mask))
        elif self.queue[-1][1] != IN_Q_OVERFLOW:
            self.queue.append((-1, IN_Q_OVERFLOW))


class Sleeper:
    """A waiter that counts."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.wakes = 0

    def wake(self) -> None:
        """Is called at most once."""
        self.wakes += 1
        assert self.wakes == 1


class HubsAgainstKernel(RuleBasedStateMachine):
    """Uses Hubs as the notifier does, in any order the machine can think of."""

    @initialize()
    def begin(self) -> None:
        """Starts with nobody waiting."""
        self.kernel = Kernel()
        self.hubs = Hubs()
        self.asleep: list[Sleeper] = []

    @rule(key=st.sampled_from(KEYS))
    def arm(self, key: Key) -> None:
        """Somebody reaches the end of a file."""
        sleeper = Sleeper(key)
        if not self.hubs.join(key, sleeper):
            self.hubs.arm(key, self.kernel.add_watch(key), sleeper)
        self.asleep.append(sleeper)

    @precondition(lambda self: self.asleep)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Somebody is closed or cancelled while waiting."""
        sleeper = data.draw(st.sampled_from(self.asleep))
        self.asleep.remove(sleeper)
        self._remove(self.hubs.leave(sleeper.key, sleeper))
        self._remove(self.hubs.leave(sleeper.key, sleeper))  # again is no error

    @rule(key=st.sampled_from(KEYS))
    def write(self, key: Key) -> None:
        """A job writes."""
        self.kernel.write(key)

    @rule(key=st.sampled_from(KEYS))
    def destroy(self, key: Key) -> None:
        """The kernel gets round to destroying a mark that has fired."""
        mark = self.kernel.marks.get(key)
        if mark is not None and not mark.alive:
            self.kernel.destroy(key)

    @rule(count=st.integers(1, QUEUE_LENGTH + 1))
    def drain(self, count: int) -> None:
        """The descriptor is read; what it tells may come in several parts."""
        queue = self.kernel.queue
        woken, stray = self.hubs.dispatch(queue.popleft() for _ in range(min(count, len(queue))))
        for wd in stray:
            self.kernel.rm_watch(wd)
        self._wake(woken)

    @rule(key=st.sampled_from(KEYS))
    def finish(self, key: Key) -> None:
        """A job ends: everybody who waits for its output is woken, whatever the kernel says."""
        woken, wd = self.hubs.release(key)
        assert woken == {sleeper for sleeper in self.asleep if sleeper.key == key}
        self._remove(wd)
        self._wake(woken)

    @invariant()
    def only_the_awaited_are_kept(self) -> None:
        """A hub exists only while somebody waits; nothing is kept for those who left."""
        assert len(self.hubs) == len({sleeper.key for sleeper in self.asleep})

    @invariant()
    def every_watch_has_its_hub(self) -> None:
        """No watch stays armed in the kernel that nobody would remove."""
        live = {mark.wd for mark in self.kernel.marks.values() if mark.alive}
        assert live <= self.hubs._by_wd.keys()

    def teardown(self) -> None:
        """Whoever still waits is woken by the next write."""
        for key in KEYS:
            self.write(key)
            self.destroy(key)
        while self.kernel.queue:
            self.drain(1)
        for key in KEYS:
            self.write(key)
            self.destroy(key)
        while self.kernel.queue:
            self.drain(1)
        assert self.asleep == []
        assert len(self.hubs) == 0

    def _remove(self, wd: int | None) -> None:
        if wd is not None:
            self.kernel.rm_watch(wd)

    def _wake(self, woken: Iterable[Waiter]) -> None:
        for sleeper in woken:
            assert isinstance(sleeper, Sleeper)
            sleeper.wake()
            self.asleep.remove(sleeper)


TestHubsAgainstKernel = HubsAgainstKernel.TestCase
TestHubsAgainstKernel.settings = settings(max_examples=150, stateful_step_count=30)


def sleepers(hubs: Hubs, *keys: Key) -> list[Sleeper]:
    """Has one waiter wait for each key, under the watch descriptors 1, 2, …"""
    found = [Sleeper(key) for key in keys]
    for wd, sleeper in enumerate(found, start=1):
        hubs.arm(sleeper.key, wd, sleeper)
    return found


def test_the_same_descriptor_given_again_wakes_by_in_ignored() -> None:
    """A dying watch that was handed out again never fires; its IN_IGNORED has to wake."""
    hubs = Hubs()
    (first,) = sleepers(hubs, KEYS[0])
    assert hubs.dispatch([(1, IN_MODIFY)]) == ([first], [])
    again = Sleeper(KEYS[0])
    assert not hubs.join(KEYS[0], again)
    hubs.arm(KEYS[0], 1, again)
    assert hubs.dispatch([(1, IN_IGNORED)]) == ([again], [])


def test_a_late_event_of_an_old_watch_wakes_nobody_else() -> None:
    """An event for a descriptor that is not armed any more is nobody's."""
    hubs = Hubs()
    (first,) = sleepers(hubs, KEYS[0])
    assert hubs.dispatch([(1, IN_MODIFY)]) == ([first], [])
    hubs.arm(KEYS[0], 2, Sleeper(KEYS[0]))
    assert hubs.dispatch([(1, IN_IGNORED), (77, IN_MODIFY)]) == ([], [])
    assert len(hubs) == 1


def test_later_waiters_share_the_armed_watch() -> None:
    """One event wakes all who wait for the file, each once; the last to leave takes the watch."""
    hubs = Hubs()
    first, other = sleepers(hubs, KEYS[0], KEYS[1])
    second = Sleeper(KEYS[0])
    assert hubs.join(KEYS[0], second)
    assert hubs.leave(KEYS[1], other) == 2
    woken, _ = hubs.dispatch([(1, IN_MODIFY), (1, IN_IGNORED)])
    assert sorted(map(id, woken)) == sorted(map(id, [first, second]))
    assert hubs.leave(KEYS[0], first) is None


def test_an_overflow_wakes_everybody_and_keeps_no_watch() -> None:
    """Whose events were dropped is not told: all look again, and every watch may be removed."""
    hubs = Hubs()
    waiters = sleepers(hubs, *KEYS)
    woken, stray = hubs.dispatch([(-1, IN_Q_OVERFLOW)])
    assert sorted(map(id, woken)) == sorted(map(id, waiters))
    assert sorted(stray) == [1, 2, 3]
    assert len(hubs) == 0
