"""Owns the building of the launcher: one static program for a wheel of one platform.

The compiler comes from PyPI (ziglang) and carries its own C library as source, so a build
needs nothing of the system, and any x86-64 or aarch64 machine builds for both.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Needs the kernel only, and no C library of the system: the tags are those of the oldest
# systems that the installers know.
TAGS = {
    "x86_64": "py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.musllinux_1_1_x86_64",
    "aarch64": "py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64",
}
ARCHITECTURE = "JOBBY_LAUNCHER_ARCH"
"""Names the machine to build for; this one, if it is not set; "none" builds no launcher."""

WARNINGS = ("-std=c17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror")


class LauncherHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling ships no types
    """Builds launcher.c into the wheel, or beside the package for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds the launcher, where there is one for the platform; called before the wheel."""
        machine = os.environ.get(ARCHITECTURE) or platform.machine()
        if sys.platform != "linux" or machine not in TAGS:
            self.app.display_warning(
                f"no launcher for {machine}: jobs and their outcomes will not survive the process "
                "that starts them, and what leaves a job's process group is not killed"
            )
            return
        root = Path(self.root)
        if version == "editable":
            compile_launcher(root, machine, root / "src" / "jobby_core" / "jobby-launcher")
            return
        self._scratch = tempfile.mkdtemp(prefix="jobby-launcher-")
        program = Path(self._scratch, "jobby-launcher")
        compile_launcher(root, machine, program)
        build_data["force_include"][str(program)] = "jobby_core/jobby-launcher"
        build_data["pure_python"] = False
        build_data["tag"] = TAGS[machine]

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes what was built once it is in the wheel."""
        del version, build_data, artifact_path
        if scratch := getattr(self, "_scratch", None):
            shutil.rmtree(scratch, ignore_errors=True)


def compile_launcher(root: Path, machine: str, program: Path) -> None:
    """Compiles the launcher of the package in `root` to `program`, which is then complete.

    Zig builds its C library anew for each path that it is installed at, and each isolated
    build has a new one: half a minute for a program that depends on nothing but its source,
    the compiler's version and the options. So it is kept in the user's cache.
    """
    source = root / "launcher" / "launcher.c"
    options = ("-target", f"{machine}-linux-musl", "-static", "-Os", "-s", *WARNINGS)
    key = hashlib.sha256(repr((source.read_bytes(), version_of("ziglang"), options)).encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "jobby-core")
    kept = cache / f"launcher-{key.hexdigest()}"
    unfinished = program.with_suffix(".new")
    if kept.is_file():
        shutil.copy(kept, unfinished)
    else:
        command = (sys.executable, "-m", "ziglang", "cc", *options, "-o", str(unfinished))
        subprocess.run([*command, str(source)], check=True)
        with suppress(OSError):  # a home that cannot be written to costs the next build its time
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                Path(shutil.copy(unfinished, scratch)).replace(kept)
    unfinished.replace(program)  # a running launcher keeps the file it was started from
