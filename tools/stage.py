"""Owns the stage of the demo: a scratch folder, a server, and an operator who types."""

import hashlib
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO

DEADLINE_SECONDS = 30.0
JOB_ID = re.compile(r"Job Started! Id: ([0-9a-f-]{36})\n")


class WentWrongError(Exception):
    """The demo did not go as told."""


def expect(condition: object, told: str) -> None:
    """Stop the demo unless what it tells is so."""
    if not condition:
        raise WentWrongError(told)


class Lines:
    """Writes whole lines, whoever writes at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, text: str) -> None:
        """Write one line, or several."""
        with self._lock:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()


show = Lines()


class Follower:
    """One `jobby output`, each line shown as it comes."""

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        assert process.stdout is not None
        self._process = process
        self._name = name
        self._pipe: IO[bytes] = process.stdout
        self._digest = hashlib.sha256()
        self.first_line = threading.Event()
        self._thread = threading.Thread(target=self._show, name=name, daemon=True)
        self._thread.start()

    def _show(self) -> None:
        for line in self._pipe:
            self._digest.update(line)
            show(f"  {self._name:13} | {line.decode().rstrip()}")
            self.first_line.set()

    def finish(self) -> str:
        """Wait for the end of the output; returns the SHA-256 of all of it."""
        self._thread.join(DEADLINE_SECONDS)
        code = self._process.wait(DEADLINE_SECONDS)
        expect(code == 0, f"{self._name} ends with 0 at the end of the output, not {code}")
        return self._digest.hexdigest()


class Stage:
    """A scratch folder, a server in it, and an operator who types commands there."""

    def __init__(self, scratch: Path, cleanup: ExitStack) -> None:
        self._scratch = scratch
        self._cleanup = cleanup
        cleanup.callback(self.clear)  # the last: when the server has ended
        # Nothing of this user's own settings, and nothing of the demo in this user's home.
        foreign = ("JOBBY_", "PYTHONPATH")
        self._environ = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        self._environ |= {"TMPDIR": str(scratch), "XDG_STATE_HOME": str(scratch / "home")}
        self._environ |= {"XDG_CONFIG_HOME": str(scratch / "config")}

    def begin(
        self, *command: str, stdout: int | None = None, stderr: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a command, and see to it that it ends with the demo."""
        process = subprocess.Popen(
            command,
            cwd=self._scratch,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            # Ctrl-c is the demo's: it ends them itself, in order.
            process_group=0,
        )
        self._cleanup.callback(end, process)
        return process

    def type(self, *command: str, code: int = 0) -> str:
        """Run a command as an operator would type it; shows it with its output."""
        return self._run(shlex.join(command), command, code)

    def shell(self, line: str) -> None:
        """Run a line that needs the shell."""
        self._run(line, ("sh", "-c", line), 0)

    def _run(self, shown: str, command: tuple[str, ...], code: int) -> str:
        show(f"$ {shown}")
        process = self.begin(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output = process.communicate(timeout=DEADLINE_SECONDS)[0].decode()
        if output:
            show("\n".join(f"  {line}" for line in output.splitlines()))
        expect(
            process.returncode == code,
            f"{command[0]} ends with exit code {code}, not {process.returncode}",
        )
        return output

    def serve(self) -> subprocess.Popen[bytes]:
        """Start the server, again on the same port; it is the client's default server."""
        listen = self._environ.get("JOBBY_SERVER", "127.0.0.1:0")
        command = ("jobby-server", "--listen", listen, "--state-dir", "state")
        show(f"$ {shlex.join(command)} &")
        server = self.begin(*command, stderr=subprocess.PIPE)
        log: list[str] = []
        address: list[str] = []
        ready = threading.Event()

        def read_log() -> None:
            assert server.stderr is not None
            # On to its end: a full pipe would stop the server.
            for line in server.stderr:
                log.append(line.decode())
                if found := re.search(r"listening on (\S+)", log[-1]):
                    address.append(found[1])
                    ready.set()
            ready.set()

        threading.Thread(target=read_log, daemon=True).start()
        ready.wait(DEADLINE_SECONDS)
        expect(address, f"the server says where it listens, and not: {''.join(log)}")
        show(f"  {log[-1].rstrip()}")
        if "JOBBY_SERVER" not in self._environ:
            show(f"$ export JOBBY_SERVER={address[0]}")
            self._environ["JOBBY_SERVER"] = address[0]
        return server

    def start(self, *command: str) -> str:
        """Start a job; returns its id."""
        found = JOB_ID.fullmatch(self.type("jobby", "start", "--", *command))
        expect(found, "`jobby start` prints the job's id, and nothing else")
        assert found is not None
        return found[1]

    def follow(self, job: str, name: str) -> Follower:
        """Follow a job's output beside everything else."""
        show(f"$ jobby output {job} &    # {name}")
        process = self.begin(
            "jobby", "output", job, stdout=subprocess.PIPE, stderr=sys.stdout.fileno()
        )
        return Follower(process, name)

    def knock_without_certificate(self) -> None:
        """Make a TLS connection that shows no certificate."""
        show("# a TLS connection that shows no certificate:")
        host, _, port = self._environ["JOBBY_SERVER"].rpartition(":")
        context = ssl.create_default_context(cafile=self._scratch / "ca.cert")
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((host, int(port)), DEADLINE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            # In TLS 1.3 a client learns of the refusal only when it reads, after its own
            # handshake is complete (RFC 8446, 4.4.2.4); one who is in gets HTTP/2 settings.
            try:
                welcome = connection.recv(1)
            except TimeoutError:
                raise
            except OSError:
                welcome = b""
        expect(not welcome, "the server closes the connection")
        show("  closed by the server")

    def leftovers(self) -> list[int]:
        """The processes that work in the scratch folder, or write to it: jobs outlive a server."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                places = [os.readlink(process / "cwd"), os.readlink(process / "fd" / "1")]
            except OSError:
                continue  # gone, or another user's
            if any(place.startswith(str(self._scratch)) for place in places):
                found.append(int(process.name))
        return found

    def clear(self) -> None:
        """Kill what is left after ctrl-c, or after a story that went wrong."""
        for pid in self.leftovers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, if need be by force."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
