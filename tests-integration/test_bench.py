"""The benchmark tells what it measured, and says what it could not measure."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from bench import __main__ as command
from bench import chart, peers, place, servers, table
from bench.cases import calls
from bench.figure import Case, Figure, Goal, Results, UnableError, Values
from bench.spread import Spread, quantile, ratios
from bench.stamps import late

from harness.cache import ROOT
from harness.environments import Installed


def _results(ours: list[float | None], theirs: list[float | None], goal: Goal) -> Results:
    case = Case(
        "work", (Figure("rate", "work: rate", "/s", (goal,)),), {"Jobby": dict, "cat": dict}
    )
    found = Results(case)
    for name, values in (("Jobby", ours), ("cat", theirs)):
        rows: list[Values | None] = [None if v is None else {"rate": v} for v in values]
        found.rounds[name] = rows
    return found


def test_a_ratio_is_of_one_round() -> None:
    """A machine that is slow for a round slows both, and the ratio stays."""
    assert ratios([10, 1, 30], [20, 2, 60]) == [0.5, 0.5, 0.5]
    assert ratios([10, None, 30], [20, 2, None]) == [0.5, None, None]


def test_a_spread_is_of_what_is_there() -> None:
    """A round that failed takes no part; without any there is no spread."""
    assert Spread.of([3, None, 1, 2]) == Spread(2, 1, 3)
    assert Spread.of([None]) is None


@pytest.mark.parametrize(("part", "value"), [(0, 1), (0.5, 5), (0.99, 10), (1, 10)])
def test_a_quantile_was_measured(part: float, value: float) -> None:
    """The nearest rank, in whatever order the values are."""
    assert quantile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], part) == value


@pytest.mark.parametrize(("ours", "verdict"), [([8.0, 9.0, 9.5], True), ([8.0, 7.0, 9.5], False)])
def test_a_goal_is_judged_by_the_median(ours: list[float | None], verdict: bool) -> None:
    """One bad round decides nothing, and neither does one good round."""
    (row,) = table.rows([_results(ours, [10, 10, 10], Goal(0.9, True, "cat"))])
    assert row.reached is verdict


def test_a_bound_on_the_value_needs_no_peer() -> None:
    """A goal in absolute numbers has a row of its own, beside those of the peers."""
    bound, beside = table.rows([_results([5.0], [10.0], Goal(4, False))])
    assert (bound.reached, bound.peer) == (False, "")
    assert (beside.reached, beside.peer) == (None, "cat")


def test_who_is_missing_is_named_where_a_goal_hangs_on_it() -> None:
    """A goal that could not be judged stands in the table, and says why."""
    results = _results([5.0], [None], Goal(0.9, True, "cat"))
    results.failures["cat"] = "missing"
    (row,) = table.rows([results])
    assert table.cells(row)[-1] == "cat: missing"
    assert row.reached is None


def test_who_failed_is_named_once_where_no_goal_hangs_on_it() -> None:
    """A peer does not vanish from the table because nothing is promised of it."""
    results = Results(
        Case("work", (Figure("a", "a", ""), Figure("b", "b", "")), {"Jobby": dict, "cat": dict}),
        {"Jobby": [{"a": 1.0, "b": 2.0}], "cat": [None]},
        {"cat": "too many open files"},
    )
    first, second = map(table.cells, table.rows([results]))
    assert first[-1] == "cat: too many open files"
    assert second[-1] == ""


def test_a_round_that_failed_hides_no_verdict() -> None:
    """The others decide, and it is told beside what they say."""
    results = _results([5.0, 6.0], [10.0, None], Goal(0.9, True, "cat"))
    results.failures["cat"] = "no space left"
    (row,) = table.rows([results])
    assert table.cells(row)[-1] == "**not reached**; cat in 1 of 2 rounds: no space left"


def test_a_table_has_a_line_a_row() -> None:
    """It is Markdown, and its columns line up in a terminal."""
    lines = table.markdown(table.rows([_results([5.0], [10.0], Goal(0.9, True, "cat"))])).split(
        "\n"
    )
    assert len({len(line) for line in lines}) == 1
    assert "0.500" in lines[-1]
    assert "**not reached**" in lines[-1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1,234"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    """No more is known of anything that was measured on a shared machine."""
    assert table.number(value) == text


def test_the_chart_is_svg() -> None:
    """A bar for each ratio, and none for what has none."""
    shown = _results([5.0], [10.0], Goal(0.9, True, "cat"))
    missing = _results([5.0], [None], Goal(0.9, True, "cat"))
    root = ET.fromstring(chart.svg(list(table.rows([shown, missing])), "a < b"))
    assert root.tag.endswith("svg")
    bars = [each for each in root.iter() if each.tag.endswith("rect")]
    assert len(bars) == 1 + 1  # the background


def test_without_its_binaries_the_go_port_is_missing(tmp_path: Path) -> None:
    """It is named, with the way to have it."""
    assert "--go" in peers.go_port(None).missing
    assert str(tmp_path) in peers.go_port(tmp_path).missing


def test_the_go_ports_versions_are_read_from_its_binaries(tmp_path: Path) -> None:
    """Whoever reads the table knows which Go and which gRPC it is about."""
    head = b"\xff Go buildinf:\x08\x02" + bytes(16)
    (tmp_path / "jobbyport-server").write_bytes(b"go1.13\0" + head + b"\x08go1.19.8\xc4\x01")
    (tmp_path / "loadgen").write_bytes(b"\0grpc-go/1.33.3 is")
    assert peers.go_port(tmp_path).version == "go1.19.8, grpc-go/1.33.3"


def test_stamps_are_told_from_other_words() -> None:
    """The job is let go when it is heard of, and lines may come in pieces."""
    begun: list[str] = []
    now = str(time.time_ns()).encode()
    chunks = [b"==> Press Ctrl-C\nrea", b"dy\n", now[:5], now[5:] + b"\n" + now, b"\n12 34\n"]
    assert len(late(chunks, 2, lambda: begun.append("now"))) == 2
    assert begun == ["now"]
    with pytest.raises(EOFError, match="2 of 3"):
        late(chunks, 3, lambda: None)


def test_without_its_python_ray_is_missing(tmp_path: Path) -> None:
    """It is named, with the way to have it."""
    assert "--ray" in peers.ray(None).missing
    assert "no ray" in peers.ray(Path(sys.executable)).missing


def test_who_fails_in_any_way_takes_nobody_along() -> None:
    """A peer may fail as it likes: the others are measured, and told."""

    def fail() -> Values:
        raise EOFError("no 'listening' in\nb''")

    results = [Results(Case("work", (), {"cat": fail, "Jobby": lambda: {"rate": 1.0}}))]
    command.measure(results, rounds=2)
    assert results[0].rounds == {"cat": [None] * 2, "Jobby": [{"rate": 1.0}] * 2}
    assert "\n" not in results[0].failures["cat"]
    assert "EOFError" in results[0].failures["cat"]


def test_one_round_of_one_case(installed: Installed, tmp_path: Path) -> None:
    """It drives the installed wheels, and tells the same in a table, in JSON and in a chart."""
    native, compiler = {name: tmp_path / name for name in ("emit", "spawn")}, peers.cat()
    scale = place.Scale(starts=5)
    go = peers.go_port(None)
    at = place.Place.at(installed, tmp_path, scale, native)
    chosen = [c for c in calls.cases(servers.Servers(at, None, go)) if c.name == "status"]
    results = [Results(case) for case in chosen]
    command.measure(results, rounds=1)
    assert results[0].failures == {"Go port": "missing"}
    head = command.system(tmp_path)
    command.tell(tmp_path / "out", head, command.present(installed, compiler, go, None), results)
    told = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert told["cases"]["status"]["rounds"]["Jobby"][0]["rate"] > 0
    assert "GetStatus" in (tmp_path / "out" / "bench.md").read_text()
    ET.parse(tmp_path / "out" / "bench.svg")


_COMMAND = (ROOT / "tools" / "hatch", "run", "bench")


def _environment() -> dict[str, str]:
    # As from a shell: this variable would have hatch look in the tests' own environment.
    return {name: value for name, value in os.environ.items() if name != "HATCH_ENV_ACTIVE"}


def _bench(*options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_COMMAND, *options],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_documented_command(tmp_path: Path) -> None:
    """It prints the table with who is missing, writes it, and leaves nothing where output was."""
    out, folder = tmp_path / "out", tmp_path / "output"
    folder.mkdir()
    options = ("--quick", "--rounds", "1", "--only", "lib-follow", "--out", out, "--folder", folder)
    done = _bench(*options)
    assert done.returncode == 0, done.stderr
    assert (out / "bench.md").read_text() in done.stdout
    assert "Go port: MISSING" in done.stdout
    (rounds,) = json.loads((out / "bench.json").read_text())["cases"].values()
    assert sorted(rounds["rounds"]) == ["cat", "library"]
    assert not list(folder.iterdir())


def test_who_is_ended_tells_what_there_is(tmp_path: Path) -> None:
    """A long run that is interrupted was not for nothing, and says that it was interrupted."""
    options = ("--quick", "--rounds", "1000", "--only", "lib-follow", "--out", tmp_path / "out")
    with subprocess.Popen(
        [*_COMMAND, *options],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        try:
            for line in running.stderr:
                if line.startswith("round 2/"):
                    break
        finally:
            os.killpg(running.pid, signal.SIGTERM)
        told = running.stdout.read()
    assert "incomplete: ended early, exit code 143" in told
    assert (tmp_path / "out" / "bench.md").read_text() in told
    (rounds,) = json.loads((tmp_path / "out" / "bench.json").read_text())["cases"].values()
    assert rounds["rounds"]["cat"]


def test_an_unknown_case_is_refused(tmp_path: Path) -> None:
    """Before anything is measured, with the names that there are."""
    done = _bench("--only", "lib-folow", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "no such case: lib-folow; there are " in done.stderr
    assert "lib-follow" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_worker_that_fails_says_so() -> None:
    """The last line that it said is the reason in the table."""
    failing = ["sh", "-c", "echo first >&2; echo last >&2; exit 3"]
    with pytest.raises(UnableError, match="last"):
        place.output_of(failing, {"PATH": "/usr/bin:/bin"})


def test_a_call_that_fails_is_the_reason(installed: Installed, tmp_path: Path) -> None:
    """Its code and details on one line: the last line of gRPC's own text is a bracket."""
    at = place.Place.at(installed, tmp_path, place.QUICK, {})
    with at.scratch() as folder, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        server = {"address": address, "pid": os.getpid(), "folder": str(folder)}
        arguments = {"server": {**server, "emit": "", "gate": ""}, "count": 1}
        with pytest.raises(UnableError, match=r"^UNAVAILABLE: .*Connection refused"):
            at.work(installed.client, "calls", "status", arguments)
