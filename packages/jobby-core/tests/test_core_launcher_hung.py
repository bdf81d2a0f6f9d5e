"""Promises about a file system that does not answer while a command is being executed."""

import os
from pathlib import Path

import pytest
from core_support import run_job_script

# A FUSE file system (fuse(4)) that answers when it is mounted and never again, as NFS does whose
# server has gone: who waits for it can be killed.
HUNG = """
import select, struct
from jobby_core import _launcher

libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(36, 1, 0, 0, 0)  # a subreaper, as a container's init is: what nobody reaps is its own
fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
mount = f"{folder}/mount"
os.mkdir(mount)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"fuse", mount.encode(), b"fuse", 0, options):
    raise OSError(ctypes.get_errno(), "mount")
_, _, unique, _ = struct.unpack_from("IIQQ", os.read(fuse, 1 << 16))
init = struct.pack("IIIIHHIIHH", 7, 31, 0, 0, 0, 0, 4096, 1, 0, 0).ljust(64, bytes(1))
os.write(fuse, struct.pack("IiQ", 16 + len(init), 0, unique) + init)

def someone_waits():
    select.select([fuse], [], [])

def start(where):
    names = dict(stdout_path=f"{folder}/job/out", stderr_path=f"{folder}/job/err",
                 directory=f"{folder}/job")
    if where == "program":
        return Job.start(JobArgs(f"{mount}/program", **names))
    return Job.start(JobArgs("touch", (f"{folder}/ran",), cwd=mount, **names))

def print_what_is_left():
    try:
        print("a child:", os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        print("no child")
    print(sorted(os.listdir(f"{folder}/job")), os.path.exists(f"{folder}/ran"))

os.mkdir(f"{folder}/job")
# The library's own are so long that nobody would wait for a test of them.
_launcher._START_SECONDS, _launcher._END_SECONDS = 0.5, 0.1
"""


@pytest.fixture
def may_mount(own_mounts: list[str]) -> list[str]:
    """A command to run another under, in which FUSE may be mounted."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("this machine has no FUSE, so no file system can be made to hang")
    return own_mounts


@pytest.mark.parametrize("where", ["program", "folder"])
def test_a_start_that_hangs_is_given_up(where: str, may_mount: list[str], tmp_path: Path) -> None:
    """It is told in time, and nothing is left that would run when the mount comes back."""
    script = """
try:
    start(sys.argv[2])
except StartError as error:
    print(type(error).__name__, error.cause)
print_what_is_left()
"""
    assert run_job_script(HUNG + script, tmp_path, where, before=may_mount) == (
        "CommandNotExecutableError it was not executed within 0.5 s, as where a file system does "
        "not answer\nno child\n[] False\n"
    )


def test_a_start_that_hangs_can_be_interrupted(may_mount: list[str], tmp_path: Path) -> None:
    """Twice, by who grows impatient: the launcher cannot be asked then, and must not stay."""
    script = """
_launcher._START_SECONDS = _launcher._END_SECONDS = 60  # it is the interrupts that end the wait
tells = _launcher._tells

def interrupt():
    someone_waits()
    os.kill(os.getpid(), signal.SIGINT)

def tells_or_interrupted(fd, event, seconds):
    if event == select.POLLHUP:
        os.kill(os.getpid(), signal.SIGINT)  # the second one
    return tells(fd, event, seconds)

_launcher._tells = tells_or_interrupted  # a real one seldom comes just there

threading.Thread(target=interrupt).start()
try:
    start("folder")
except KeyboardInterrupt:
    print("interrupted")
print_what_is_left()
"""
    assert run_job_script(HUNG + script, tmp_path, before=may_mount) == (
        "interrupted\nno child\n[] False\n"
    )
