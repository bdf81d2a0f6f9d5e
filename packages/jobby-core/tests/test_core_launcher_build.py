"""Promises about the launcher's source: it compiles without a warning and runs without a fault."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from core_support import Spool, parent_of

from jobby_core import _platform

HERE = Path(__file__).parent
TESTS = ("launcher", "attach", "start", "cut_short", "launcher_forks", "launcher_hung")
SOURCE = HERE.parent / "launcher" / "launcher.c"
WARNINGS = ("-std=c17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror")
ZIG = (sys.executable, "-m", "ziglang", "cc")
# A compiler of the system sees what another does not, and has AddressSanitizer, which
# ziglang's lacks. Where there is none, ziglang's checks for undefined behaviour alone.
SYSTEM = next((name for name in ("gcc", "clang") if shutil.which(name)), None)
SANITIZED: tuple[str, ...] = (
    (*ZIG, "-fsanitize=undefined", "-fsanitize-trap=undefined")
    if SYSTEM is None
    else (SYSTEM, "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
)


def compile_to(program: Path, *command: str) -> None:
    """Compiles the launcher; a warning is an error."""
    done = subprocess.run(
        [*command, *WARNINGS, "-o", program, SOURCE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_the_launcher_in_use_is_small_and_static() -> None:
    """Nothing of the system is needed but the kernel."""
    program = _platform.path()
    assert program is not None
    content = Path(program).read_bytes()
    assert content.startswith(b"\x7fELF\x02")  # elf(5): the magic, 64 bits
    assert b"/ld-" not in content  # no interpreter is asked for
    assert len(content) < 64 * 1024
    assert os.access(program, os.X_OK)


def test_a_running_launcher_has_little_memory_of_its_own(spool: Spool) -> None:
    """At most 100 KiB a job, of what no other process shares (proc_pid_smaps(5))."""
    job = spool.start("sleep", "1000")
    rollup = Path(f"/proc/{parent_of(job.pid)}/smaps_rollup").read_text(encoding="ascii")
    private = re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB$", rollup, re.MULTILINE)
    assert len(private) == 2
    assert 0 < sum(map(int, private)) <= 100


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_source_has_no_warning_on_any_platform(tmp_path: Path, machine: str) -> None:
    """Of the compiler that builds the wheels, and of the system's if it has one."""
    compile_to(tmp_path / "object", *ZIG, "-target", f"{machine}-linux-musl", "-Os", "-c")
    if SYSTEM is not None:
        compile_to(tmp_path / "other", SYSTEM, "-O2", "-c")


def test_the_launchers_tests_pass_under_sanitizers() -> None:
    """Starts, failed and hung starts, kills, limits, full disks and lost jobs: no fault in any.

    A fault ends the launcher at once, and the tests miss its outcome.
    """
    # Where other users find it, too; a test's own folder is private.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="jobby-test-") as folder:
        os.chmod(folder, 0o755)
        program = Path(folder, "launcher")
        # The launcher allocates nothing. The search for leaks at its end stops it by ptrace(2),
        # and waits for ever where a request's SIGCONT takes the SIGSTOP back.
        options = {"JOBBY_LAUNCHER": str(program), "ASAN_OPTIONS": "detect_leaks=0"}
        compile_to(program, *SANITIZED, "-O1", "-g")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *(HERE / f"test_core_{name}.py" for name in TESTS),
                # glibc, unlike musl, has a shell run what is no program (execvp(3)).
                *("-k", "not a_file_that_is_no_program"),
            ],
            env=os.environ | options,
            cwd=HERE.parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
