"""Promises about readers: a job is theirs until the last one will not come again."""

import asyncio
import uuid
from functools import partial

from server_waiting import run, until

from jobby_server.readers import Readers

JOBS = [uuid.UUID(int=number) for number in range(3)]


def test_each_is_expected_for_as_long_as_the_first_was() -> None:
    """Whoever ended later has later to come again; one who comes meanwhile keeps the job."""

    async def scenario() -> None:
        loop, gone = asyncio.get_running_loop(), list[float]()

        def has_come(moment: float) -> bool:
            return loop.time() >= moment

        readers = Readers(lambda: gone.append(loop.time()), 0.05)
        began = loop.time()
        for job in JOBS:
            readers.begin(job)
            readers.end(job, comes_again=True)
            assert job in readers
            if job == JOBS[1]:
                readers.begin(job)
            await until(partial(has_come, loop.time() + 0.02))  # no two have the same moment
        await until(lambda: len(gone) == 2)
        assert [job in readers for job in JOBS] == [False, True, False]
        assert min(gone) - began >= 0.05
        readers.end(JOBS[1], comes_again=True)  # when nobody else is expected any more
        await until(lambda: len(gone) == 3)
        assert JOBS[1] not in readers
        assert gone[2] - gone[1] >= 0.05

    run(scenario())


def test_who_does_not_come_again_is_gone_at_once() -> None:
    """A stranger's look, for one, keeps nothing; nor does anybody where nothing is to be waited."""

    async def scenario() -> None:
        for seconds, comes_again in ((3600.0, False), (0.0, True)):
            gone = asyncio.Event()
            readers = Readers(gone.set, seconds)
            readers.begin(JOBS[0])
            readers.begin(JOBS[0])
            readers.end(JOBS[0], comes_again=comes_again)
            assert (JOBS[0] in readers, gone.is_set()) == (True, False)
            readers.end(JOBS[0], comes_again=comes_again)
            assert (JOBS[0] in readers, gone.is_set()) == (False, True)

    run(scenario())


def test_a_thousand_expected_take_one_timer() -> None:
    """Each would keep a copy of its call's context."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        readers = Readers(lambda: None, 3600.0)
        before = len(loop._scheduled)  # type: ignore[attr-defined]  # what there is to count
        for _ in range(1000):
            readers.begin(JOBS[0])
            readers.end(JOBS[0], comes_again=True)
        assert len(loop._scheduled) == before + 1  # type: ignore[attr-defined]  # likewise

    run(scenario())
