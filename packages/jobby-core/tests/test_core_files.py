"""Promises about the output files: whose they are, and what happens to them under a reader."""

import asyncio
import fcntl
import os
import stat
from pathlib import Path

import pytest
from core_support import (
    DEADLINE_SECONDS,
    Feed,
    Spool,
    background,
    follow_all,
    read_all,
    until,
    until_waiting,
)

from jobby_core import (
    Job,
    OutputExistsError,
    OutputMissingError,
    OutputTruncatedError,
    Stream,
    _output,
)


def stdout_path(job: Job) -> Path:
    """Returns where the job's standard output lies."""
    return Path(job.args.stdout_path)


def read_in_every_way(job: Job, offset: int = 0) -> set[bytes]:
    """Reads standard output with both kinds of readers."""
    return {
        read_all(job.stdout(offset=offset)),
        asyncio.run(follow_all(job, Stream.STDOUT, offset)),
    }


def test_the_files_are_plain_and_private(spool: Spool) -> None:
    """After the job they are the caller's: ordinary files, readable by their user alone."""
    job = spool.shell("printf out; printf err >&2")
    job.wait(DEADLINE_SECONDS)
    assert stdout_path(job).read_bytes() == b"out"
    assert Path(job.args.stderr_path).read_bytes() == b"err"
    for path in (job.args.stdout_path, job.args.stderr_path):
        assert stat.S_IMODE(os.stat(path).st_mode) == stat.S_IRUSR | stat.S_IWUSR


@pytest.mark.parametrize("taken", ["stdout_path", "stderr_path"])
@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link"])
def test_a_path_that_is_taken_is_refused_and_left_alone(
    spool: Spool, taken: str, kind: str
) -> None:
    """Nobody's file is overwritten, not even through a link, and no other is left behind."""
    args = spool.args("echo", "new")
    path = Path(getattr(args, taken))
    target = spool.path()
    if kind == "file":
        path.write_bytes(b"precious")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(target)
        if kind == "link":
            target.write_bytes(b"precious")
    before = sorted(spool.folder.iterdir())
    with pytest.raises(OutputExistsError) as caught:
        Job.start(args)
    assert caught.value.path == str(path)
    assert str(caught.value) == (
        f"cannot create {path} for a job's output: the path is taken, and its content is not "
        "overwritten; move it away, or name another path"
    )
    assert sorted(spool.folder.iterdir()) == before
    if kind in ("file", "link"):
        assert path.read_bytes() == b"precious"


def test_a_deleted_file_is_read_to_its_end_by_whoever_has_it_open(spool: Spool) -> None:
    """Deleting the output under a reader takes nothing from it; a later one is told."""
    feed = spool.feed()
    with feed.job.stdout() as reader:
        waiting = background(reader.read, 100)
        until_waiting(1)
        stdout_path(feed.job).unlink()
        feed.write(b"after its deletion")
        assert waiting.result(DEADLINE_SECONDS) == b"after its deletion"
        with feed.job.stdout(offset=6) as second:  # the file is open, so it can be shared
            assert second.read(3) == b"its"
        feed.end()
        assert reader.read() == b""
    with pytest.raises(OutputMissingError, match="it was removed after the job was started"):
        feed.job.stdout()
    with pytest.raises(OutputMissingError) as caught:
        asyncio.run(follow_all(feed.job, Stream.STDOUT))
    assert caught.value.path == feed.job.args.stdout_path


def test_a_renamed_file_is_followed_by_whoever_has_it_open(spool: Spool) -> None:
    """The watch is on the file, not on its name."""
    feed = spool.feed()
    with feed.job.stdout() as reader:
        waiting = background(reader.read, 100)
        until_waiting(1)
        stdout_path(feed.job).rename(spool.path(".moved"))
        feed.write(b"after its renaming")
        assert waiting.result(DEADLINE_SECONDS) == b"after its renaming"
        feed.end()
        assert reader.read() == b""
    with pytest.raises(OutputMissingError, match="it was removed"):
        feed.job.stdout()


def has_generations(path: Path) -> bool:
    """Tells whether the file system can tell an inode number's users apart."""
    with path.open("rb") as file:
        try:
            fcntl.ioctl(file, _output._GET_GENERATION, bytes(8))
        except OSError:
            return False
    return True


def test_another_file_in_its_place_is_never_taken_for_the_output(disk_spool: Spool) -> None:
    """A replaced output is an error, also where the new file has the old one's inode number.

    Only where the file system has no generations (overlayfs), the number is all there is to see.
    """
    for _ in range(20):
        job = disk_spool.shell("printf mine")
        job.wait(DEADLINE_SECONDS)
        path = stdout_path(job)
        number = path.stat().st_ino
        path.unlink()
        path.write_bytes(b"another job's")
        if path.stat().st_ino != number or has_generations(path):
            with pytest.raises(OutputMissingError, match="another file took its place"):
                job.stdout()
            with pytest.raises(OutputMissingError, match="another file took its place"):
                asyncio.run(follow_all(job, Stream.STDOUT))


@pytest.mark.parametrize("kind", ["FIFO", "folder", "link to another file"])
def test_a_path_that_became_something_else_is_an_error_and_does_not_hang(
    spool: Spool, kind: str
) -> None:
    """Opening must not block on a FIFO, nor follow a link away."""
    job = spool.shell("printf mine")
    job.wait(DEADLINE_SECONDS)
    path = stdout_path(job)
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(spool.file(b"another's"))
    with pytest.raises(OutputMissingError, match="another file took its place"):
        background(job.stdout).result(DEADLINE_SECONDS)


def test_readers_of_a_running_job_are_told_of_a_truncation(spool: Spool) -> None:
    """`> /dev/stdout` inside a job loses what it wrote; who had read it gets an error, not less."""
    gate = spool.gate()
    job = spool.shell('printf 12345; read _ < "$1"; : > /dev/stdout; read _ < "$1"', gate.path)

    async def follow() -> None:
        async with job.follow(Stream.STDOUT) as follower:
            assert await anext(follower) == b"12345"
            await anext(follower)

    with job.stdout() as reader, job.stdout() as behind:
        assert background(lambda: [reader.read(1) for _ in range(5)]).result(DEADLINE_SECONDS)
        following = background(asyncio.run, follow())
        reading = background(reader.read)
        until_waiting(2)
        gate.open()
        for outcome in (reading, following):
            with pytest.raises(OutputTruncatedError, match="was truncated to 0 bytes") as caught:
                outcome.result(DEADLINE_SECONDS)
            assert caught.value.path == job.args.stdout_path
        gate.open()
        assert behind.read() == b"", "it had read nothing that was lost"
        with pytest.raises(OutputTruncatedError):
            reader.read(1)
    assert job.wait(DEADLINE_SECONDS).exit_code == 0


def test_a_truncation_is_told_after_the_end_too(spool: Spool) -> None:
    """A file that is shorter than what was read is never an ordinary end of output."""
    job = spool.shell("printf 12345")
    job.wait(DEADLINE_SECONDS)
    with job.stdout() as reader:
        assert reader.read(4) == b"1234"
        os.truncate(stdout_path(job), 2)
        with pytest.raises(OutputTruncatedError, match="on from byte 4"):
            reader.read()


@pytest.mark.usefixtures("both_ways")
def test_an_output_that_was_cut_after_the_end_is_never_taken_for_the_whole(spool: Spool) -> None:
    """Not even by who comes after that, and has read nothing; whether it waits or not."""
    job = spool.shell("printf 12345; printf 123 >&2")
    job.wait(DEADLINE_SECONDS)
    os.truncate(stdout_path(job), 2)

    async def look(wait: bool, tail: bool) -> None:
        async with job.follow(Stream.STDOUT, wait=wait) as follower:
            await (follower.size() if tail else anext(follower))

    with job.stdout() as reader, pytest.raises(OutputTruncatedError, match="it had 5 bytes when"):
        reader.read()
    for wait, tail in ((True, False), (False, False), (True, True)):
        with pytest.raises(OutputTruncatedError, match="truncated to 2 bytes"):
            asyncio.run(look(wait, tail))
    assert read_all(job.stderr()) == b"123"


def test_a_cut_is_told_to_who_does_not_wait_and_began_while_the_job_ran(spool: Spool) -> None:
    """What was written after its first look is none of its business, and no error."""
    feed = spool.feed()
    feed.write(b"12345")
    until(lambda: stdout_path(feed.job).stat().st_size == 5, "it wrote five")

    async def follow() -> bytes:
        async with feed.job.follow(Stream.STDOUT, max_chunk_bytes=2, wait=False) as follower:
            chunks = [await anext(follower)]
            feed.write(b"67890")
            feed.end()
            return b"".join(chunks + [chunk async for chunk in follower])

    assert asyncio.run(follow()) == b"12345"


@pytest.mark.parametrize("way", ["read", "readinto", "peek"])
def test_a_truncation_is_told_amid_what_was_seen(spool: Spool, way: str) -> None:
    """Who reads in small steps through a large file hears of it at the next step, in every way."""
    job = spool.shell("head -c 100000 /dev/zero")
    job.wait(DEADLINE_SECONDS)
    with job.stdout() as reader:
        assert reader.read(2) == b"\0\0"
        assert reader.read(2) == b"\0\0"
        os.truncate(stdout_path(job), 3)
        with pytest.raises(OutputTruncatedError, match="truncated to 3 bytes"):
            getattr(reader, way)(bytearray(2) if way == "readinto" else 2)


def test_a_job_may_reopen_its_own_output(spool: Spool) -> None:
    """Appending through /dev/stdout and /dev/stderr leaves no holes of NUL bytes."""
    job = spool.shell(
        "echo 1; echo 2 >> /dev/stdout; echo 3; echo a >&2; echo b >> /dev/stderr; echo c >&2"
    )
    assert job.wait(DEADLINE_SECONDS).exit_code == 0
    assert read_all(job.stdout()) == b"1\n2\n3\n"
    assert read_all(job.stderr()) == b"a\nb\nc\n"


def test_what_is_truncated_leaves_no_hole(spool: Spool) -> None:
    """After `> /dev/stdout` the job's next write begins at byte 0, not where it had been."""
    job = spool.shell("printf 12345; : > /dev/stdout; printf new")
    job.wait(DEADLINE_SECONDS)
    assert read_in_every_way(job) == {b"new"}


def test_stdout_and_stderr_are_two_outputs(spool: Spool) -> None:
    """Neither shows up in the other, nor ends it."""
    out, err = spool.feed(Stream.STDOUT), spool.feed(Stream.STDERR)
    for feed, silent, loud in (
        (out, out.job.stderr, out.job.stdout),
        (err, err.job.stdout, err.job.stderr),
    ):
        finish(feed)
        assert read_all(silent()) == b""
        assert read_all(loud()) == b"text"


def finish(feed: Feed) -> None:
    """Has a job write something and end."""
    feed.write(b"text")
    feed.end()
