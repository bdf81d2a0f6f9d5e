"""Owns `./tools/hatch run test`: two runs of pytest, and one verdict.

The unit tests run beside the packages of the working tree. The integration
tests run in an environment that has none of them, and drive installed wheels.
All arguments go to pytest; a path or test id picks the run that it belongs to:

    ./tools/hatch run test -k follower
    ./tools/hatch run test packages/jobby-core/tests

Some tests need root, a cgroup or FUSE, and are skipped without; where JOBBY_NO_SKIPS is
set, as on a machine that has them all, that is a failure.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NO_SKIPS = "JOBBY_NO_SKIPS"


@dataclass(frozen=True)
class Suite:
    """One run of pytest: which environment, and which folder it tests."""

    name: str
    folder: str
    python: tuple[str, ...]

    def owns(self, argument: str) -> bool:
        """Whether `argument` is a path, or a test id, in this suite's folder."""
        path = Path(ROOT, argument.partition("::")[0])
        # Not Path.exists: a long -k would be an error to it.
        return os.path.exists(path) and path.resolve().is_relative_to(ROOT / self.folder)


SUITES = (
    Suite("unit", "packages", (sys.executable,)),
    Suite("integration", "tests-integration", ("hatch", "--env", "integration", "run", "python")),
)


def split(arguments: list[str]) -> dict[Suite, list[str]]:
    """What to tell pytest in each suite; a suite that no path names stays out."""
    paths = {suite: [arg for arg in arguments if suite.owns(arg)] for suite in SUITES}
    options = [arg for arg in arguments if not any(arg in own for own in paths.values())]
    if not any(paths.values()):
        return {suite: [*options, suite.folder] for suite in SUITES}
    return {suite: [*options, *own] for suite, own in paths.items() if own}


def run(suite: Suite, arguments: list[str], report: Path) -> pytest.ExitCode | int:
    """Run one suite; pytest writes to the terminal, and its counts to `report`."""
    # One more than there are processors: some tests wait. A file's tests share its server.
    parallel = ("-n", str(min((os.cpu_count() or 1) + 1, 4)), "--dist", "loadfile")
    command = [*suite.python, "-m", "pytest", *parallel, f"--junit-xml={report}", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode  # the caller judges it


def counts(report: Path) -> dict[str, int]:
    """How many tests passed, failed and so on; empty when pytest wrote no report."""
    if not report.is_file():
        return {}
    suites = ET.parse(report).getroot().iter("testsuite")
    found = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in suites:
        for key in found:
            found[key] += int(suite.get(key, "0"))
    failed, errors, skipped = found["failures"], found["errors"], found["skipped"]
    passed = found["tests"] - failed - errors - skipped
    named = {"failed": failed, "passed": passed, "skipped": skipped, "errors": errors}
    return {name: number for name, number in named.items() if number}


def main(arguments: list[str]) -> int:
    """Run the suites one after the other; the exit code is the first bad one."""
    # Ctrl-c is for pytest, which then cleans up and reports; this process waits for that.
    signal.signal(signal.SIGINT, lambda *_: None)
    chosen = split(arguments)
    started = time.monotonic()
    codes: list[int] = []
    total: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="jobby-tests-") as scratch:
        for suite, own in chosen.items():
            report = Path(scratch, f"{suite.name}.xml")
            print(f"\n### {suite.name} tests", flush=True)
            codes.append(run(suite, own, report))
            for name, number in counts(report).items():
                total[name] = total.get(name, 0) + number
            if codes[-1] == pytest.ExitCode.INTERRUPTED:
                break
    # With -k, one of the suites may well have nothing to do; not both.
    if any(code != pytest.ExitCode.NO_TESTS_COLLECTED for code in codes):
        codes = [code for code in codes if code != pytest.ExitCode.NO_TESTS_COLLECTED]
    if len(chosen) > 1 and total:
        order = ("failed", "passed", "skipped", "errors")  # pytest's own
        numbers = ", ".join(f"{total[name]} {name}" for name in order if name in total)
        seconds = time.monotonic() - started
        print(f"\n### {' and '.join(suite.name for suite in chosen)} tests together")
        print(f" {numbers} in {seconds:.2f}s ".center(80, "="))
    if total.get("skipped") and os.environ.get(NO_SKIPS):
        print(f"{NO_SKIPS} is set, and what was skipped proves nothing: see the reasons above")
        codes.append(pytest.ExitCode.TESTS_FAILED)
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
