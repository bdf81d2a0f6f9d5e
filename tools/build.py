"""Owns `./tools/hatch run build`: an sdist of each distribution and its wheels, in dist/."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from harness.wheels import NAMES, build

ROOT = Path(__file__).resolve().parent.parent
# jobby-core has a wheel for each machine that it has a launcher for; see its hatch_build.py.
MACHINES = ("x86_64", "aarch64")


def main() -> int:
    """Empty dist/ and fill it."""
    out = ROOT / "dist"
    shutil.rmtree(out, ignore_errors=True)
    wheels = build(out)
    for name in NAMES:
        print(wheels.sdist(name).relative_to(ROOT))
        print(wheels.wheel(name).relative_to(ROOT))
    core = wheels.sdist("jobby-core")
    for machine in MACHINES:
        if machine != platform.machine():
            subprocess.run(
                ["uv", "build", "--wheel", "--python", sys.executable, "--out-dir", out, core],
                cwd=ROOT,
                env=os.environ | {"JOBBY_LAUNCHER_ARCH": machine},
                check=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
