"""Promises about exhausted limits: each is named, with its way out, and nothing is left behind."""

from pathlib import Path

import pytest
from core_support import run_job_script

NO_DESCRIPTOR = (
    "this process has no file descriptor left (RLIMIT_NOFILE); "
    "close some, or raise the limit with ulimit -n"
)


def test_at_whatever_descriptor_it_runs_out_a_start_leaves_nothing(tmp_path: Path) -> None:
    """With none, one, two … to spare: LimitError and nothing left, until there are enough."""
    script = """
import resource
from jobby_core import LimitError
LIMIT = 64
resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
spare = []
try:
    while True:
        spare.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass

def count_open():
    count = 0
    for fd in range(LIMIT):
        try:
            os.fstat(fd)
            count += 1
        except OSError:
            pass
    return count

failed = 0
while True:
    before, this = count_open(), args("sh", "-c", "exit 4")
    try:
        job = Job.start(this)
        break
    except LimitError as error:
        assert error.limit == "RLIMIT_NOFILE"
        failed += 1
        last = error
    assert count_open() == before
    assert not os.path.exists(this.stdout_path) and not os.path.exists(this.stderr_path)
    try:
        os.waitpid(-1, os.WNOHANG)
        raise SystemExit("a process is left")
    except ChildProcessError:
        pass
    os.close(spare.pop())
assert failed >= 5, failed
assert job.wait(30).exit_code == 4
print(str(last).partition(": ")[2])
"""
    assert run_job_script(script, tmp_path) == f"{NO_DESCRIPTOR}\n"


def test_without_a_descriptor_a_reader_says_so_and_can_be_had_later(tmp_path: Path) -> None:
    """Opening an output, and waiting for more of it, name the limit; both work again after it."""
    script = """
import asyncio, concurrent.futures.thread, resource
from jobby_core import LimitError
job = shell("echo ready; exec sleep 1000")
assert read_line(job) == "ready"
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
loop = asyncio.new_event_loop()
spare = []
try:
    while True:
        spare.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass

def refused(call):
    try:
        call()
    except LimitError as error:
        return error.limit, str(error)
    raise SystemExit("not refused")

follower = job.follow(Stream.STDOUT)
print(refused(job.stdout))
print(refused(lambda: loop.run_until_complete(anext(follower))))
os.close(spare.pop())
reader = job.stdout()
assert reader.readline() == b"ready\\n"
print(refused(reader.read))  # inotify_init(2) gives EMFILE for descriptors, too
assert loop.run_until_complete(anext(follower)) == b"ready\\n"
print(refused(lambda: loop.run_until_complete(anext(follower))))
for fd in spare:
    os.close(fd)
reading = threading.Thread(target=reader.read)
reading.start()
job.stop()
reading.join(30)
assert not reading.is_alive()
assert loop.run_until_complete(anext(follower, b"end")) == b"end"
loop.run_until_complete(follower.aclose())
reader.close()
loop.close()
"""
    path = f"{tmp_path}/0.out"
    opening = ("RLIMIT_NOFILE", f"cannot open {path} to read a job's output: {NO_DESCRIPTOR}")
    waiting = ("RLIMIT_NOFILE", f"cannot wait for more output: {NO_DESCRIPTOR}")
    assert run_job_script(script, tmp_path) == "".join(
        f"{error}\n" for error in (opening, opening, waiting, waiting)
    )


@pytest.mark.parametrize(
    ("limit", "name", "cause"),
    [
        (
            "max_inotify_instances",
            "fs.inotify.max_user_instances",
            "the user's inotify instances are used up by other processes",
        ),
        (
            "max_inotify_watches",
            "fs.inotify.max_user_watches",
            "the user's inotify watches are used up",
        ),
    ],
)
def test_an_exhausted_inotify_limit_is_named_and_overcome(
    own_limits: list[str], tmp_path: Path, limit: str, name: str, cause: str
) -> None:
    """What is there can still be read; waiting for more says which limit; raised, it works."""
    script = """
import asyncio
from jobby_core import LimitError
limit = sys.argv[2]

def set_limit(value):
    with open(f"/proc/sys/user/{limit}", "w") as file:
        file.write(str(value))

job = shell("echo ready; exec sleep 1000")
assert read_line(job) == "ready"
set_limit(0)
reader = job.stdout()

async def follow():
    async with job.follow(Stream.STDOUT) as follower:
        async for chunk in follower:
            assert chunk == b"ready\\n"

assert reader.readline() == b"ready\\n"
for wait in (reader.read, reader.peek, lambda: asyncio.run(follow())):
    try:
        wait()
    except LimitError as error:
        print(error.limit, error, sep="|")
set_limit(100)
reading = threading.Thread(target=reader.read)
reading.start()
job.stop()
reading.join(30)
assert not reading.is_alive()
asyncio.run(follow())
reader.close()
"""
    error = f"cannot wait for more output: {cause}; raise {name} with sysctl"
    assert run_job_script(script, tmp_path, limit, before=own_limits) == f"{name}|{error}\n" * 3


def test_without_another_process_to_be_had_a_start_says_so(two_users: Path) -> None:
    """fork(2), EAGAIN: the limit is named, and nothing is left behind."""
    script = """
import resource
from jobby_core import LimitError
os.setresuid(65534, 65534, 65534)  # root has no such limit
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
try:
    Job.start(args("true"))
except LimitError as error:
    print(error.limit, error, sep="|")
assert os.listdir(folder) == []
"""
    assert run_job_script(script, two_users) == (
        "RLIMIT_NPROC|cannot start 'true': no further process may be made (RLIMIT_NPROC, pids.max "
        "or kernel.pid_max); end some processes, or raise the limit with ulimit -u\n"
    )


def test_a_full_disk_is_named_and_leaves_nothing(own_mounts: list[str], tmp_path: Path) -> None:
    """No room for the second output: neither is left, and the error says disk full."""
    script = """
from jobby_core import LimitError
# The folder itself takes one inode, so there is room for one file.
subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=2", "tmpfs", folder], check=True)
try:
    shell("exit 0")
except LimitError as error:
    assert error.path == f"{folder}/0.err"
    print(error.limit, str(error).replace(folder, "FOLDER"), sep="|")
assert os.listdir(folder) == []
"""
    assert run_job_script(script, tmp_path, before=own_mounts) == (
        "disk space|cannot create FOLDER/0.err for a job's output: disk full; "
        "free space, or choose another folder\n"
    )


def test_a_disk_that_fills_up_ends_no_output_early(own_mounts: list[str], tmp_path: Path) -> None:
    """The job is told by its own write; whoever follows gets every byte that found room."""
    script = """
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
job = shell("head -c 1000000 /dev/zero | tr '\\\\000' x; exec 2>/dev/null; echo more || exit 5")
with job.stdout() as reader:
    data = reader.read()
assert job.wait(30).exit_code == 5
with open(job.args.stdout_path, "rb") as file:
    assert file.read() == data
assert 0 < len(data) <= 65536 and set(data) == {ord("x")}
print("every byte")
"""
    assert run_job_script(script, tmp_path, before=own_mounts) == "every byte\n"
