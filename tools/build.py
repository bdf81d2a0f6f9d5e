"""Owns `./tools/hatch run build`: an sdist and a wheel of each distribution, in dist/."""

import shutil
import sys
from pathlib import Path

from harness.wheels import NAMES, build

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Empty dist/ and fill it."""
    out = ROOT / "dist"
    shutil.rmtree(out, ignore_errors=True)
    wheels = build(out)
    for name in NAMES:
        print(wheels.sdist(name).relative_to(ROOT))
        print(wheels.wheel(name).relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
