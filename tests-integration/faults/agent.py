"""Owns a process that uses the installed `jobby_client` as it is told: see `agent_main`."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.certificates import Credentials
from support.server import environment

PATIENCE_SECONDS = 100.0
"""How long any one answer may take, restarts of the server and a busy machine included."""

_PROGRAM = Path(__file__).with_name("agent_main.py")


class Deed:
    """Something that an agent was told to do."""

    def __init__(self) -> None:
        self._began = threading.Event()
        self._answer: Future[dict[str, Any]] = Future()

    def tell(self, answer: dict[str, Any]) -> None:
        """Take note of what the agent says of it."""
        self._began.set()
        if answer.pop("done", False):
            self._answer.set_result(answer)

    def fail(self, why: str) -> None:
        """Take note that no answer will come."""
        if not self._answer.done():
            self.tell({"done": True, "error": why})

    def began(self) -> None:
        """Wait for a first sign: of a stream, its first bytes."""
        if not self._began.wait(PATIENCE_SECONDS):
            raise TimeoutError("an agent was told to do something, and has not begun")

    def result(self, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait for its end: what the agent says, with `error` if it failed."""
        return self._answer.result(seconds)

    def value(self, key: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait for its end, which must be good, and take one thing of it."""
        answer = self.result(seconds)
        if key not in answer:
            raise RuntimeError(f"an agent failed: {answer}")
        return answer[key]


class Agent:
    """Somebody with a certificate, and a program of the installed client.

    Attributes:
        pid: its process id.
    """

    def __init__(self, python: Path, folder: Path, identity: Credentials, address: str) -> None:
        identity.for_client(folder)
        self._process = subprocess.Popen(
            [python, "-I", _PROGRAM, address],
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self._lock = threading.Lock()
        self._deeds: dict[int, Deed] = {}  # guarded by _lock
        self._ended = False  # guarded by _lock
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            with self._lock:
                deed = self._deeds[answer.pop("number")]
            deed.tell(answer)
        with self._lock:
            self._ended = True
            left = list(self._deeds.values())
        for deed in left:
            deed.fail("the agent has ended")

    def do(self, what: str, **request: Any) -> Deed:
        """Have it do something; returns at once."""
        assert self._process.stdin is not None
        deed = Deed()
        with self._lock:
            number = len(self._deeds)
            self._deeds[number] = deed
            line = json.dumps({"number": number, "do": what, **request})
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()
            ended = self._ended
        if ended:
            deed.fail("the agent has ended")
        return deed

    def start(self, *command: str, **request: Any) -> Deed:
        """Start a job, however often the server is killed meanwhile."""
        return self.do("start", command=command, **request)

    def started(self, *command: str, **request: Any) -> str:
        """Start a job; returns its id."""
        return str(self.start(*command, **request).value("job"))

    def follow(self, job: str, **request: Any) -> Deed:
        """Read an output to its end."""
        return self.do("follow", job=job, **request)

    def status(self, job: str) -> dict[str, Any]:
        """How a job stands."""
        return self.do("status", job=job).result()

    def statuses(self, jobs: Iterable[str]) -> list[dict[str, Any]]:
        """How jobs stand, asked all at once."""
        return [deed.result() for deed in [self.do("status", job=job) for job in jobs]]

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._listener.join(PATIENCE_SECONDS)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
