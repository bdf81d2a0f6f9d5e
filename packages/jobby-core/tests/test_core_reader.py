"""Promises about OutputReader, the raw stream over a job's output for threads."""

import array
import contextlib
import io
import os
import shutil
import threading
import time

import pytest
from core_support import (
    DEADLINE_SECONDS,
    Spool,
    background,
    descriptors,
    digest,
    inotify_instances,
    kernel_watches,
    read_all,
    until_waiting,
)

from jobby_core import (
    OutputReader,
    OutputTruncatedError,
    ReaderBusyError,
    ReaderClosedError,
    Stream,
)

LINES = b"first\n\nthird, much longer than the others\r\nlast without an end"


@pytest.mark.parametrize("stream", Stream)
def test_it_is_live_and_ends_with_the_job(spool: Spool, stream: Stream) -> None:
    """What the job writes can be read while it runs; b"" comes only after its end, and stays."""
    feed = spool.feed(stream)
    with feed.job.stdout() if stream is Stream.STDOUT else feed.job.stderr() as reader:
        for piece in (b"one", b"\0\xff", b"three" * 100):
            waiting = background(reader.read, 4096)
            until_waiting(1)
            feed.write(piece)
            assert waiting.result(DEADLINE_SECONDS) == piece
        waiting = background(reader.read, 4096)
        until_waiting(1)
        feed.close()
        assert waiting.result(DEADLINE_SECONDS) == b""
        assert reader.read(1) == b""
        assert reader.read() == b""
        assert reader.readinto(bytearray(1)) == 0
        assert reader.readline() == b""
        assert reader.peek() == b""


def test_reading_starts_at_the_first_byte_whenever_it_starts(spool: Spool) -> None:
    """A reader made before, during or after the job's life reads the same bytes."""
    feed = spool.feed()
    early = feed.job.stdout()
    feed.write(b"one ")
    with early, feed.job.stdout() as during:
        assert during.read(4) == b"one "
        feed.write(b"two")
        feed.end()
        assert during.read() == b"two"
        assert early.read() == b"one two"
    assert read_all(feed.job.stdout()) == b"one two"


def test_an_offset_starts_further_on_and_tell_counts_from_the_first_byte(spool: Spool) -> None:
    """`offset` skips bytes without reading them; it may be the very end."""
    job = spool.shell("printf 0123456789")
    job.wait(DEADLINE_SECONDS)
    for offset in range(11):
        with job.stdout(offset=offset) as reader:
            assert reader.tell() == offset
            assert reader.read(3) == b"0123456789"[offset : offset + 3]
            assert reader.tell() == min(offset + 3, 10)
    with pytest.raises(ValueError, match="offset must be 0 or more, not -1"):
        job.stdout(offset=-1)
    with job.stdout(offset=11) as reader, pytest.raises(OutputTruncatedError):
        reader.read()


def test_a_read_returns_what_there_is_and_no_more_than_asked(spool: Spool) -> None:
    """A raw read neither waits for `size` bytes to come together nor exceeds them."""
    feed = spool.feed()
    feed.write(b"abcdef")
    with feed.job.stdout() as reader:
        assert [reader.read(2), reader.read(1)] == [b"ab", b"c"]
        assert reader.read(1000) == b"def"


def test_nothing_asked_for_is_nothing_read_and_no_end(spool: Spool) -> None:
    """A zero-length buffer returns at once and loses nothing, also while the job runs."""
    feed = spool.feed()
    with feed.job.stdout() as reader:
        assert reader.read(0) == b""
        assert reader.readinto(bytearray()) == 0
        assert reader.readinto(array.array("i")) == 0
        feed.write(b"x")
        assert reader.read(0) == b""
        assert reader.read(1) == b"x"


def test_it_reads_into_any_writable_buffer(spool: Spool) -> None:
    """`readinto` fills bytes of whatever item size, and says how many."""
    job = spool.shell("printf 0123456789abcdef")
    job.wait(DEADLINE_SECONDS)
    with job.stdout() as reader:
        numbers = array.array("I", [0, 0])
        assert reader.readinto(numbers) == 8
        assert numbers.tobytes() == b"01234567"
        target = bytearray(b"....")
        assert reader.readinto(memoryview(target)[1:3]) == 2
        assert target == b".89."
        large = bytearray(100)
        assert reader.readinto(large) == 6
        assert large.startswith(b"abcdef\0")
        with pytest.raises((TypeError, BufferError)):
            job.stdout().readinto(b"read-only")


def test_lines_come_whole_however_they_were_written(spool: Spool) -> None:
    """`for line in reader` and `readline` split at line feeds only, across writes and waits."""
    feed = spool.feed()
    with feed.job.stdout() as reader:
        lines = background(lambda: list(reader))
        for position in range(0, len(LINES), 7):
            until_waiting(1)
            feed.write(LINES[position : position + 7])
        feed.close()
        assert lines.result(DEADLINE_SECONDS) == LINES.splitlines(keepends=True)
    with feed.job.stdout() as reader:
        assert [reader.readline(3), reader.readline()] == [b"fir", b"st\n"]
        assert reader.readlines() == LINES.splitlines(keepends=True)[1:]


def test_a_peek_does_not_move(spool: Spool) -> None:
    """`peek` waits for something, shows it, and leaves it to be read."""
    feed = spool.feed()
    with feed.job.stdout() as reader:
        peek = background(reader.peek)
        until_waiting(1)
        feed.write(b"seen")
        assert peek.result(DEADLINE_SECONDS) == b"seen"
        assert reader.tell() == 0
        assert reader.read(10) == b"seen"


def test_the_standard_library_takes_it_for_a_file(spool: Spool) -> None:
    """BufferedReader, TextIOWrapper, copyfileobj and friends work as over a real raw file."""
    data = os.urandom(300_000)
    job = spool.start("cat", spool.file(data))
    assert isinstance(job.stdout(), io.RawIOBase)
    with io.BufferedReader(job.stdout()) as buffered:
        head = buffered.read(100_000)
        assert buffered.tell() == 100_000
        assert digest(head + buffered.read()) == digest(data)
    target = io.BytesIO()
    with job.stdout() as reader:
        shutil.copyfileobj(reader, target)
    assert digest(target.getvalue()) == digest(data)
    text = spool.shell("printf 'ä\\nö\\n'")
    with io.TextIOWrapper(io.BufferedReader(text.stdout()), encoding="utf-8") as lines:
        assert list(lines) == ["ä\n", "ö\n"]


def test_it_says_what_it_can_do(spool: Spool) -> None:
    """Readable and nothing else; it has no descriptor that somebody could move or close."""
    with spool.start("true").stdout() as reader:
        assert (reader.readable(), reader.writable(), reader.seekable()) == (True, False, False)
        assert not reader.closed
        with pytest.raises(io.UnsupportedOperation):
            reader.fileno()
        with pytest.raises(io.UnsupportedOperation):
            reader.seek(0)
    assert reader.closed


def test_a_closed_reader_says_so(spool: Spool) -> None:
    """Every way of reading from a closed reader raises; closing again is no error."""
    job = spool.start("true")
    reader = job.stdout()
    reader.close()
    reader.close()
    for read in (reader.read, reader.readall, reader.readline, reader.__next__, reader.peek):
        with pytest.raises(ValueError, match="closed"):
            read()
    with pytest.raises(ReaderClosedError) as caught:
        reader.readinto(bytearray(1))
    assert caught.value.path == job.args.stdout_path
    assert str(caught.value) == (
        f"cannot read {job.args.stdout_path}: the reader is closed; open another one"
    )


def test_one_thread_at_a_time(spool: Spool) -> None:
    """A second thread gets an error at once, and takes nothing from the first."""
    feed = spool.feed()
    with feed.job.stdout() as reader:
        first = background(reader.read, 10)
        until_waiting(1)
        for read in (reader.read, reader.peek, lambda: reader.readinto(bytearray(1))):
            with pytest.raises(ReaderBusyError, match="give each thread or task a reader"):
                read()
        feed.write(b"x")
        assert first.result(DEADLINE_SECONDS) == b"x"


def test_who_does_not_read_holds_up_nobody(spool: Spool) -> None:
    """Neither the job nor other readers wait for a reader that is slow, however much is written."""
    data = os.urandom(1 << 20) * 8  # far more than any pipe or socket buffer holds
    job = spool.start("cat", spool.file(data))
    with job.stdout() as slow:
        assert slow.read(1) == data[:1]
        assert digest(read_all(job.stdout())) == digest(data)
        assert job.wait(DEADLINE_SECONDS).exit_code == 0
        assert digest(data[:1] + slow.read()) == digest(data)


def test_a_chatty_job_is_read_in_batches(spool: Spool) -> None:
    """Many tiny writes become far fewer reads, and every byte arrives."""
    writes = 20_000
    job = spool.python(f"import os\nfor n in range({writes}): os.write(1, b'%07d\\n' % n)")
    with job.stdout() as reader:
        chunks = list(iter(lambda: reader.read(1 << 20), b""))
    assert b"".join(chunks) == b"".join(b"%07d\n" % n for n in range(writes))
    assert len(chunks) < writes / 10


def test_who_reached_the_end_lets_the_file_grow_for_a_moment(spool: Spool) -> None:
    """However fast the job writes, one reader at its heels reads every 2 ms and not more often."""
    job = spool.feed().job
    with open(job.args.stdout_path, "ab", buffering=0) as file, job.stdout() as reader:
        for _ in range(20):
            before = time.monotonic()
            file.write(b"one")
            assert reader.read(10) == b"one"
            file.write(b"two")
            assert reader.read(10) == b"two"
            assert time.monotonic() - before >= 0.002


def test_who_does_not_wait_has_no_watch(spool: Spool) -> None:
    """A watch is gone with its first event: one that stayed would tax each write of the job."""
    feed = spool.feed()
    with feed.job.stdout() as reader:
        chunk = background(reader.read, 10)
        until_waiting(1)
        assert kernel_watches() == 1
        feed.write(b"x")
        assert chunk.result(DEADLINE_SECONDS) == b"x"
        assert inotify_instances()
        assert kernel_watches() == 0


def test_what_the_library_opens_is_not_inherited(spool: Spool) -> None:
    """Whatever else this program executes gets neither the outputs nor the notification."""
    before = descriptors()
    feed = spool.feed()
    with feed.job.stdout() as reader:
        chunk = background(reader.read, 10)
        until_waiting(1)
        opened = {fd for fd, _ in descriptors().items() - before.items()}
        assert set(inotify_instances()) < opened
        assert not any(map(os.get_inheritable, opened))
        assert not any(map(os.get_blocking, inotify_instances()))
        feed.write(b"x")
        assert chunk.result(DEADLINE_SECONDS) == b"x"


def test_readers_share_one_descriptor(spool: Spool) -> None:
    """A thousand readers of one output cost one descriptor, and none moves another."""
    job = spool.shell("printf 0123456789")
    job.wait(DEADLINE_SECONDS)
    # Not how many there are: gRPC, after another package's tests, may close its own meanwhile.
    before = descriptors().items()
    readers = [job.stdout(offset=number % 10) for number in range(1000)]
    assert [what for _, what in descriptors().items() - before] == [job.args.stdout_path]
    for number, reader in enumerate(readers):
        assert read_all(reader) == b"0123456789"[number % 10 :]
    assert not descriptors().items() - before


def test_a_truncation_during_the_pause_is_no_end(spool: Spool) -> None:
    """A file that shrinks while a reader lets it grow for 2 ms is an error, never an early end."""
    path = spool.feed().job.args.stdout_path
    job = spool.jobs[-1]
    for _ in range(50):
        at_end = threading.Event()
        with open(path, "ab", buffering=0) as file, job.stdout() as reader:
            reading = background(_read_twice, file, reader, at_end)
            assert at_end.wait(DEADLINE_SECONDS)
            os.truncate(path, 0)
            with contextlib.suppress(OutputTruncatedError):
                assert reading.result(DEADLINE_SECONDS) == b"two"


def _read_twice(file: io.FileIO, reader: OutputReader, at_end: threading.Event) -> bytes:
    file.write(b"one")
    assert reader.read(10) == b"one"
    file.write(b"two")
    at_end.set()
    return reader.read(10)
