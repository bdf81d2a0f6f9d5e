"""Owns `./tools/hatch run faults`: every fault, as often as told, and what was lost by them.

    ./tools/hatch run faults --rounds 10
    ./tools/hatch run faults --rounds 100 --only server-killed --only launcher-killed
    ./tools/hatch run faults --rounds 0 --soak 3600

Every fault is real: processes, disks, networks, limits. The exit code is 1 if anything was lost,
or a fault could not be injected.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from faults.catalogue import FAULTS, inject
from faults.losses import Losses
from faults.namespaces import NotHereError
from faults.scene import Scene
from faults.soak import soak
from harness.environments import Installed, environments
from support.certificates import Authority

COLUMNS = "{:<24} {:>6} {:>12} {:>11} {:>8} {:>6} {:>8}"


def arguments(given: list[str]) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="./tools/hatch run faults", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="times each (1)")
    parser.add_argument("--only", action="append", choices=sorted(FAULTS), help="this one; again")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="then work so long")
    parser.add_argument("--seed", type=int, help="draws the random moments of an earlier run")
    return parser.parse_args(given)


def inject_all(
    name: str, rounds: int, installed: Installed, authority: Authority, chance: random.Random
) -> Losses:
    """Inject one fault so often; says what is lost as it is lost."""
    losses = Losses()
    for number in range(1, rounds + 1):
        told = len(losses.words)
        with tempfile.TemporaryDirectory(prefix="jobby-faults-") as scratch:
            scene = Scene(installed, authority, Path(scratch), chance=chance, full_size=True)
            inject(name, scene, losses)
        for words in losses.words[told:]:
            print(f"LOST in {name}, round {number}: {words}", flush=True)
    return losses


def main(given: list[str]) -> int:
    """Inject what was asked for; prints a table."""
    wanted = arguments(given)
    seed = random.randrange(1 << 32) if wanted.seed is None else wanted.seed
    chance = random.Random(seed)
    print(f"random moments drawn from --seed {seed}", flush=True)
    bad = False
    with environments() as (installed, _):
        authority = Authority()
        head = ("fault", "rounds", "lost bytes", "exit codes", "orphans", "other", "seconds")
        print(COLUMNS.format(*head), flush=True)
        for name in (wanted.only or FAULTS) if wanted.rounds > 0 else ():
            began = time.monotonic()
            try:
                found = inject_all(name, wanted.rounds, installed, authority, chance)
            except NotHereError as error:
                print(f"{name:<24} NOT INJECTED: {error}", flush=True)
                bad = True
                continue
            kinds = (found.bytes, found.exit_codes, found.orphans, found.other)
            seconds = f"{time.monotonic() - began:.1f}"
            print(COLUMNS.format(name, wanted.rounds, *kinds, seconds), flush=True)
            bad = bad or not found.none()
        if wanted.soak:
            with tempfile.TemporaryDirectory(prefix="jobby-faults-") as scratch:
                found = Losses()
                with Scene(
                    installed, authority, Path(scratch), chance=chance, full_size=True
                ) as scene:
                    print(soak(scene, found, wanted.soak), flush=True)
            for words in found.words:
                print(f"LOST in the soak: {words}", flush=True)
            bad = bad or not found.none()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
