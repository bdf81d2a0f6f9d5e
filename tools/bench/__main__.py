"""Owns `./tools/hatch run bench`: the run, round by round, and what is told of it.

./tools/hatch run bench                       everything, 5 rounds
./tools/hatch run bench --quick               less of everything, 3 rounds
./tools/hatch run bench --only start stream1  some of it
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from bench import chart, peers, table
from bench.cases import calls, command, growth, library, streams
from bench.figure import Case, Results, UnableError
from bench.peers import Peer
from bench.place import QUICK, Place, Scale
from bench.servers import Servers
from harness.cache import ROOT
from harness.environments import Installed, environments, opened
from harness.wheels import Wheels

ROUNDS, QUICK_ROUNDS = 5, 3
IN_MEMORY = Path("/dev/shm")


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bench", description="Measure Jobby beside its peers, in turn, in ratios."
    )
    parser.add_argument("--quick", action="store_true", help="less of everything, and 3 rounds")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these cases")
    parser.add_argument("--list", action="store_true", help="list the cases and end")
    parser.add_argument("--rounds", type=int, metavar="N", help=f"how many (default: {ROUNDS})")
    parser.add_argument("--go", type=Path, metavar="DIR", help="binaries of the Go port")
    parser.add_argument("--ray", type=Path, metavar="PYTHON", help="a Python that has Ray Jobs")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where results go (default: .cache/bench)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="DIR",
        help=f"where output is kept meanwhile (default: {IN_MEMORY}, which is memory)",
    )
    return parser.parse_args(arguments)


def all_cases(place: Place, servers: Servers, ray: Path | None) -> list[Case]:
    """Everything that can be measured."""
    return [
        *calls.cases(servers),
        *streams.cases(servers),
        *library.cases(place, ray),
        *command.cases(place),
        *growth.cases(servers),
    ]


def present(installed: Installed, compiler: Peer, go: Peer, ray: Path | None) -> list[Peer]:
    """Everybody with a version, and who is missing."""
    versions = {**installed.server.distributions(), **installed.client.distributions()}
    own = [Peer(name, versions[name]) for name in ("jobby-core", "jobby-server", "jobby-cli")]
    grpc = Peer("grpcio", versions["grpcio"])
    python = peers.python(installed.library.python, "subprocess, raw TLS")
    others = [peers.task_spooler(), peers.supervisor(), peers.ray(ray), peers.cat()]
    return [*own, grpc, go, python, compiler, *others]


def measure(results: list[Results], rounds: int) -> None:
    """Do all the work, a round of everything, then the next one, and add what was measured."""
    for number in range(rounds):
        for each in results:
            if each.case.most_rounds and number >= each.case.most_rounds:
                continue
            contenders = list(each.case.contenders.items())
            # Another one first in each round: what goes before may leave its mark.
            turn = number % len(contenders)
            for name, work in contenders[turn:] + contenders[:turn]:
                begin = time.monotonic()
                try:
                    values = work()
                    said = ", ".join(f"{key} {table.number(v)}" for key, v in values.items())
                except Exception as error:  # noqa: BLE001 - the others' rounds are worth keeping
                    text = str(error) if isinstance(error, UnableError) else repr(error)
                    values, said = None, " ".join(text.split())[:200]
                    each.failures[name] = said
                each.rounds.setdefault(name, []).append(values)
                took = time.monotonic() - begin
                where = f"round {number + 1}/{rounds} {each.case.name}, {name}"
                print(f"{where}: {said} [{took:.1f} s]", file=sys.stderr, flush=True)


def system(folder: Path) -> dict[str, str]:
    """On what it was measured."""
    kind = next(
        (
            fields[2]
            for line in reversed(Path("/proc/mounts").read_text().splitlines())
            if (fields := line.split()) and folder.is_relative_to(fields[1]) and fields[1] != "/"
        ),
        "the root's file system",
    )
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "cores": str(len(os.sched_getaffinity(0))),
        "load when it began": load,
        "output on": kind,
    }


def tell(out: Path, head: dict[str, str], them: list[Peer], results: list[Results]) -> None:
    """Write the table, JSON and the chart, then print the table: a closed terminal takes none."""
    rows = list(table.rows(results))
    lines = [f"{key}: {value}" for key, value in head.items()]
    text = "\n".join([*lines, *map(str, them), "", table.markdown(rows), ""])
    out.mkdir(parents=True, exist_ok=True)
    (out / "bench.md").write_text(text)
    (out / "bench.svg").write_text(chart.svg(rows, f"Jobby by its peers ({head['output on']})"))
    raw: dict[str, Any] = {
        "system": head,
        "peers": [asdict(peer) for peer in them],
        "cases": {
            each.case.name: {"rounds": each.rounds, "failures": each.failures} for each in results
        },
        "rows": [{**asdict(row), "reached": row.reached} for row in rows],
    }
    (out / "bench.json").write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n")
    print(text)
    print(f"written: {out}/bench.md, bench.json, bench.svg")


def names(scale: Scale) -> list[str]:
    """All cases' names, with nothing built: a case looks at its place only when it works."""
    nothing = opened(Path(), Wheels(Path()))
    place = Place.at(nothing, Path(), scale, {"emit": Path(), "spawn": Path()})
    return [case.name for case in all_cases(place, Servers(place, None, peers.go_port(None)), None)]


def _end_by(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> int:
    """Measure what is asked for; exit code 1 when ours could not do one of them.

    Whoever ends it by a signal is told what there is so far.
    """
    options = parsed()
    scale = QUICK if options.quick else Scale()
    known = names(scale)
    if options.list:
        print("\n".join(known))
        return 0
    if unknown := sorted(set(options.only) - set(known)):
        text = f"no such case: {', '.join(unknown)}; there are {', '.join(known)}"
        print(text, file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) ignores SIGHUP
            signal.signal(number, _end_by)
    folder = options.folder or (IN_MEMORY if IN_MEMORY.is_dir() else Path(tempfile.gettempdir()))
    folder = folder.resolve()
    head = system(folder)
    go = peers.go_port(options.go)
    with (
        environments() as (installed, _),
        tempfile.TemporaryDirectory(prefix="jobby-bench-bin-") as binaries,
        tempfile.TemporaryDirectory(prefix="jobby-bench-", dir=folder) as scratch,
    ):
        native, compiler = peers.compile_native(Path(binaries))
        place = Place.at(installed, Path(scratch), scale, native)
        servers = Servers(place, options.go, go)
        cases = {case.name: case for case in all_cases(place, servers, options.ray)}
        them = present(installed, compiler, go, options.ray)
        results = [Results(cases[name]) for name in options.only or known]
        ended: str | int | None = 0
        try:
            measure(results, options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS))
        except SystemExit as signalled:
            ended = signalled.code
            head["incomplete"] = f"ended early, exit code {ended}"
        # Before the folders are removed: that may fail, or be interrupted, too.
        begun = [each for each in results if each.rounds]
        tell(options.out or ROOT / ".cache" / "bench", head, them, begun)
    if ended:
        sys.exit(ended)
    return int(any(next(iter(each.case.contenders)) in each.failures for each in results))


if __name__ == "__main__":
    sys.exit(main())
