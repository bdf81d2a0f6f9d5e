"""The log: nothing that a client writes can forge a line of it, and no argument is in it."""

import logging
import signal
import sys

import grpc
import grpc.aio
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from server_client import refused
from server_process import ANY_PORT, Files, connect, started
from server_waiting import run

from jobby_proto.v1 import jobby_pb2 as pb
from jobby_server.log import LineFormatter, printable

CODE = grpc.StatusCode


@given(st.text())
def test_printable_text_stays_and_the_rest_is_escaped(text: str) -> None:
    """No control character survives, and what is readable is not touched."""
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def record(message: str, *, error: Exception | None = None) -> logging.LogRecord:
    """Returns a record, with the traceback of an error."""
    info = None
    if error is not None:
        try:
            raise error
        except Exception:  # noqa: BLE001 - any that was given
            info = sys.exc_info()
    return logging.LogRecord("x", logging.INFO, "f", 1, message, None, info)


@given(st.text())
def test_a_record_is_one_line(message: str) -> None:
    """A newline in a name cannot begin another record."""
    line = LineFormatter().format(record(message))
    assert line.isprintable()
    assert " INFO " in line


def test_the_lines_of_a_traceback_are_marked() -> None:
    """An exception's text with a line that looks like a record is seen to be part of it."""
    evil = ValueError("x\n2026-01-01T00:00:00Z INFO listening on evil:1\n\x1b[2J")
    first, *rest = LineFormatter().format(record("oops", error=evil)).split("\n")
    assert first.endswith(" INFO oops")
    assert rest
    assert all(line.startswith("  | ") and line.isprintable() for line in rest)


def test_a_name_or_a_command_cannot_forge_the_log(files: Files) -> None:
    """What clients choose appears escaped, each record on its own line."""
    evil = "x\n2026-01-01T00:00:00Z INFO listening on evil:1\x1b[2J"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "al\x1bice", _validate=False)])
    with started(files, *ANY_PORT) as process:

        async def scenario() -> None:
            client = connect(files, process.address)
            command = files.folder / evil
            command.parent.mkdir(exist_ok=True)
            command.write_text("#!/bin/sh\n")
            command.chmod(0o700)
            await client.wait(await client.run_job(str(command)))
            await client.channel.close()
            stranger = connect(files, process.address, subject)
            call = stranger.status(pb.GetStatusRequest(job_id=b"x" * 16))
            assert (await refused(call))[0] is CODE.UNAUTHENTICATED
            await stranger.channel.close()

        run(scenario())
        _, log = process.end(signal.SIGTERM)
    assert "\\n2026-01-01" in log
    lines = log.splitlines()
    assert all(line.isprintable() for line in lines)
    assert sum("Z INFO listening on" in line and "\\n" not in line for line in lines) == 1
    assert any("refused a call" in line for line in lines)


def test_an_argument_is_not_logged(files: Files) -> None:
    """Arguments may hold passwords; the log has the command alone."""
    with started(files, *ANY_PORT, "--log-level", "debug") as process:

        async def scenario() -> None:
            client = connect(files, process.address)
            await client.wait(await client.run_job("echo", "hunter2"))
            await client.channel.close()

        run(scenario())
        _, log = process.end(signal.SIGTERM)
    assert "started echo" in log
    assert "hunter2" not in log
