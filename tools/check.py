"""Owns `./tools/hatch run check`: every static check, and one verdict.

./tools/hatch run check               all of them
./tools/hatch run check types lint    these
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import rules

from harness.environments import Installed, environments
from harness.wheels import NAMES

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"


@dataclass(frozen=True)
class Finding:
    """How one check went."""

    name: str
    passed: bool
    output: str
    seconds: float


Verdict = tuple[bool, str]


def run(*command: str | Path, cwd: Path = ROOT, path: Path | None = None) -> Verdict:
    """Run a tool: whether it was content, and what it said. `path` goes first on its PATH."""
    search = os.environ["PATH"] if path is None else f"{path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"PATH": search},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,  # the verdict is the caller's
    )
    shown = shlex.join(map(str, command))
    return done.returncode == 0, f"$ {shown}\n{done.stdout}"


def run_all(*commands: tuple[str | Path, ...]) -> Verdict:
    """Run several tools; all must be content. What the others said is left out."""
    results = [run(*command) for command in commands]
    bad = [output for passed, output in results if not passed]
    return not bad, "\n".join(bad)


def types() -> Verdict:
    """mypy --strict. One run a package: their test folders share module names."""
    groups = [[f"packages/{name}/src", f"packages/{name}/tests"] for name in NAMES]
    groups += [["tests-integration"], ["tools", "packages/conftest.py"]]
    commands = []
    for group in groups:
        cache = CACHE / "mypy" / group[0].replace("/", "-")
        commands.append(("mypy", "--cache-dir", str(cache), *group))
    return run_all(*commands)


def contract() -> Verdict:
    """The contract's style, and that no client of the released one breaks."""
    return run_all(
        ("buf", "lint", "proto"),
        ("buf", "breaking", "proto", "--against", "proto/released.txtpb"),
    )


def published_types(installed: Installed) -> Verdict:
    """Every public name of the installed library has a known type, as pyright sees it."""
    # With --verifytypes, pyright looks at the `python` on PATH and ignores
    # --pythonpath; and in the checkout it would find the working tree instead.
    with tempfile.TemporaryDirectory(prefix="jobby-types-") as elsewhere:
        return run(
            *("pyright", "--verifytypes", "jobby_core", "--ignoreexternal"),
            cwd=Path(elsewhere),
            path=installed.library.path / "bin",
        )


def distributions(installed: Installed) -> Verdict:
    """What would be uploaded is well-formed, and holds nothing that does not belong there."""
    wheels = [installed.wheels.wheel(name) for name in NAMES]
    sdists = [installed.wheels.sdist(name) for name in NAMES]
    command_line = installed.wheels.wheel("jobby-cli")
    return run_all(
        ("twine", "check", "--strict", *wheels, *sdists),
        ("check-wheel-contents", *(each for each in wheels if each != command_line)),
        # W009: it holds two packages on purpose, the command and the client under it.
        ("check-wheel-contents", "--ignore", "W009", command_line),
    )


def rule(complaints: Callable[[], list[str]]) -> Callable[[], Verdict]:
    """One of our own rules as a check."""

    def check() -> Verdict:
        found = complaints()
        return not found, "\n".join(found)

    return check


CHECKS: dict[str, Callable[[], Verdict]] = {
    "types": types,
    "format": partial(run, "ruff", "format", "--check", "."),
    "lint": partial(run, "ruff", "check", "."),
    "imports": partial(run, "lint-imports", "--cache-dir", CACHE / "import-linter"),
    "stubs": partial(run, sys.executable, "tools/protoc.py", "--check"),
    "contract": contract,
    "licences": rule(rules.licences),
    "exceptions": rule(rules.exceptions),
    "constraints": rule(rules.constraints),
}
# These look at what a user would install.
CHECKS_OF_WHEELS: dict[str, Callable[[Installed], Verdict]] = {
    "published-types": published_types,
    "distributions": distributions,
}


def timed(name: str, check: Callable[[], Verdict]) -> Finding:
    """Run one check."""
    started = time.monotonic()
    passed, output = check()
    return Finding(name, passed, output, time.monotonic() - started)


def findings(chosen: list[str]) -> Iterator[Finding]:
    """Run the chosen checks side by side, and tell of each in the order of their names."""
    with ExitStack() as stack:
        checks = {name: CHECKS[name] for name in chosen if name in CHECKS}
        if of_wheels := [name for name in chosen if name in CHECKS_OF_WHEELS]:
            installed, _ = stack.enter_context(environments())
            checks |= {name: partial(CHECKS_OF_WHEELS[name], installed) for name in of_wheels}
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=os.cpu_count()))
        yield from pool.map(timed, checks.keys(), checks.values())


def main() -> int:
    """Run the checks that were named, or all; exit code 1 when one has a complaint."""
    known = [*CHECKS, *CHECKS_OF_WHEELS]
    parser = argparse.ArgumentParser(description="Run the static checks.")
    parser.add_argument("names", nargs="*", metavar="check", help=f"one of: {', '.join(known)}")
    names = parser.parse_args().names or known
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no such check: {', '.join(unknown)}; there are {', '.join(known)}")
    # buf keeps a cache; ours stays inside the checkout.
    os.environ.setdefault("BUF_CACHE_DIR", str(CACHE / "buf"))
    failed = []
    for finding in findings(names):
        verdict = "ok" if finding.passed else "FAILED"
        print(f"{finding.name:16} {verdict:6} {finding.seconds:5.1f} s", flush=True)
        if not finding.passed:
            failed.append(finding.name)
            print(finding.output, flush=True)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
        return 1
    print(f"\nall {len(names)} checks passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
