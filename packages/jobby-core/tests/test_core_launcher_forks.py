"""Promises about jobs that make processes faster than their launcher can reap them."""

import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from core_support import DEADLINE_SECONDS, Spool, background, parent_of, until

from jobby_core import Job, JobArgs, Reason

# Families, each in a session of its own, in which each forks the next and dies at once. They end
# by themselves, later than any test waits. Of the dead that wait to be reaped they make so many
# at most: else they would have all of the system's process ids (kernel.pid_max).
FAMILIES = """
#define _GNU_SOURCE
#include <sched.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

enum { DEAD = 6000 };

static unsigned short processes(void) {
    struct sysinfo system;
    sysinfo(&system);
    return system.procs;
}

int main(void) {
    const unsigned most = processes() + DEAD;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const time_t end = now.tv_sec + 90;
    for (int i = 0; i < 60; i++) {
        if (fork() != 0) continue;
        setsid();
        while (now.tv_sec < end) {
            if (processes() > most)
                sched_yield();
            else if (fork() > 0)
                _exit(0);
            clock_gettime(CLOCK_MONOTONIC, &now);
        }
        _exit(0);
    }
    sleep(90); /* this one is the job's main process */
}
"""


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled: an interpreter is too slow to show it."""
    folder = tmp_path_factory.mktemp("families")
    (folder / "families.c").write_text(FAMILIES)
    # As the launcher is built, so that the compiler has its C library ready.
    options = ("-target", f"{platform.machine()}-linux-musl", "-static", "-Os", "-s")
    command = (sys.executable, "-m", "ziglang", "cc", *options, "families.c", "-o", "families")
    subprocess.run(command, cwd=folder, check=True)
    return folder / "families"


def members(program: Path) -> list[str]:
    """The processes that run a program."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is the kernel's
            if (process / "exe").readlink() == program:
                found.append(process.name)
    return found


def cpu_ticks(pid: int) -> int:
    """The CPU time of a process, in clock ticks (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_it_is_stopped(spool: Spool, families: Path) -> None:
    """The request is heard among all those that have ended."""
    job = spool.start(str(families))
    launcher = parent_of(job.pid)
    until(lambda: cpu_ticks(launcher) >= 5, "it has its hands full")
    background(job.stop).result(DEADLINE_SECONDS)
    assert job.wait(DEADLINE_SECONDS).reason is Reason.STOPPED
    assert members(families) == []


def test_its_time_runs_out(spool: Spool, families: Path) -> None:
    """So is the clock."""
    to, errors = spool.path(), spool.path()
    job = Job.start(JobArgs(str(families), stdout_path=to, stderr_path=errors, timeout_seconds=1))
    spool.jobs.append(job)
    assert job.wait(DEADLINE_SECONDS).reason is Reason.TIMED_OUT
    assert members(families) == []
