"""Owns the peers: which are here, their versions, and the C programs, compiled."""

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bench.figure import UnableError

NATIVE = Path(__file__).with_name("native")


@dataclass(frozen=True)
class Peer:
    """Somebody to compare with.

    Attributes:
        name: as it stands in the table.
        version: which one it is; empty if it is missing.
        missing: why it is not here, and the way out.
    """

    name: str
    version: str = ""
    missing: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.version or f'MISSING, {self.missing}'}"


class MissingError(UnableError):
    """A peer is not here; the list of the peers says why."""

    def __init__(self) -> None:
        super().__init__("missing")


def first_line(*command: str | Path) -> str:
    """The first line that a program says."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,  # some know no --version
    )
    return done.stdout.partition("\n")[0].strip()


def go_port(folder: Path | None) -> Peer:
    """The straight Go port of the RFD."""
    name = "Go port"
    if folder is None:
        return Peer(name, missing="build it and name the folder of its binaries with --go")
    if not (folder / "jobbyport-server").is_file():
        return Peer(name, missing=f"there is no jobbyport-server in {folder}")
    # Only a client says which gRPC it has; both are of one build.
    names = ("jobbyport-server", "loadgen")
    data = b"".join((folder / each).read_bytes() for each in names if (folder / each).is_file())
    patterns = (rb"(?s)Go buildinf:.{19}(go1[.\d]+)", rb"(grpc-go/1[.\d]+)")
    found = [match[1].decode() for each in patterns if (match := re.search(each, data))]
    return Peer(name, version=", ".join(found) or f"binaries in {folder.name}/")


def task_spooler() -> Peer:
    """task-spooler, whose command Debian calls tsp."""
    name = "task-spooler"
    if shutil.which("tsp") is None:
        return Peer(name, missing="no tsp on PATH; Debian's package is task-spooler")
    return Peer(name, version=first_line("tsp", "-V"))


def supervisor() -> Peer:
    """supervisor, the one beside this Python or on PATH."""
    name = "supervisor"
    command = supervisord()
    if command is None:
        return Peer(name, missing="no supervisord on PATH; PyPI has supervisor")
    return Peer(name, version=first_line(command, "--version"))


def supervisord() -> str | None:
    """The command of supervisor's server."""
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return shutil.which("supervisord", path=search)


def ray(python: Path | None) -> Peer:
    """Ray Jobs, in an environment of its own."""
    name = "Ray Jobs"
    if python is None:
        return Peer(name, missing="name a Python that has PyPI's ray[default] with --ray")
    version = first_line(python, "-c", "import ray; print(ray.__version__)")
    if version[:1].isdigit():  # otherwise it is a traceback
        return Peer(name, version)
    return Peer(name, missing=f"{python} has no ray")


def cat() -> Peer:
    """cat(1)."""
    return Peer("cat", version=first_line("cat", "--version"))


def python(interpreter: Path, name: str) -> Peer:
    """What is Python's own."""
    code = "import platform, ssl; print(platform.python_version(), ssl.OPENSSL_VERSION, sep=', ')"
    return Peer(name, version=f"Python {first_line(interpreter, '-c', code)}")


def compile_native(folder: Path) -> tuple[dict[str, Path], Peer]:
    """Compile what is written in C into `folder`; returns the programs, and the compiler.

    Raises:
        RuntimeError: there is no compiler, or it failed.
    """
    compiler = shutil.which("cc")
    if find_spec("ziglang"):
        command = [sys.executable, "-m", "ziglang", "cc"]
    elif compiler:
        command = [compiler]
    else:
        raise RuntimeError("no C compiler: neither ziglang nor cc is here")
    programs = {}
    for source in sorted(NATIVE.glob("*.c")):
        program = programs[source.stem] = folder / source.stem
        done = subprocess.run(
            [*command, "-O2", "-o", program, source],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,  # reported below
        )
        if done.returncode != 0:
            raise RuntimeError(f"cannot compile {source.name}:\n{done.stdout}")
    version = first_line(*command, "--version")
    return programs, Peer("posix_spawn in C", version=f"{version}, {platform.libc_ver()[1]}")
