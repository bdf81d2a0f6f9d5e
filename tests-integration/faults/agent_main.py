"""Owns the program of an agent: does with `jobby_client` what it is told, and tells how it went.

It runs in the environment of the installed client. Each line of its input is a request, each line
of its output an answer with the request's number; requests are done at the same time.
"""

import json
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import Any

from jobby_client import Client, Credentials, JobbyClientError, Status, UnavailableError

Request = dict[str, Any]
Answer = dict[str, Any]
PATIENCE_SECONDS = 60.0

threading.stack_size(256 << 10)  # there may be a thousand of them
_writing = threading.Lock()


def tell(number: int, answer: Answer) -> None:
    """Write one answer."""
    with _writing:
        sys.stdout.write(json.dumps({"number": number, **answer}) + "\n")
        sys.stdout.flush()


def patiently(call: Callable[[], Any]) -> Any:
    """Call until a server answers."""
    until = time.monotonic() + PATIENCE_SECONDS
    pause = threading.Event()
    while True:
        try:
            return call()
        except UnavailableError:
            if time.monotonic() > until:
                raise
        pause.wait(0.05)


def described(status: Status) -> Answer:
    """A status as JSON has it."""
    return {
        "state": status.state.value,
        "exit_code": status.exit_code,
        "reason": None if status.reason is None else status.reason.value,
        "signal": status.signal,
        "stdout_bytes": status.stdout_bytes,
        "started_at": None if status.started_at is None else status.started_at.timestamp(),
        "ended_at": None if status.ended_at is None else status.ended_at.timestamp(),
    }


def start(client: Client, request: Request) -> Answer:
    """Start a job, as often as it takes: the request id makes that one job."""
    command, *arguments = request["command"]
    limits = {key: request[key] for key in ("timeout_seconds",) if key in request}
    ask = partial(client.start, command, arguments, request_id=uuid.uuid4().bytes, **limits)
    return {"job": str(patiently(ask))}


def status(client: Client, request: Request) -> Answer:
    """Look at a job."""
    return described(patiently(lambda: client.status(request["job"])))


def stop(client: Client, request: Request) -> Answer:
    """Stop a job."""
    patiently(lambda: client.stop(request["job"]))
    return {}


def follow(client: Client, request: Request) -> Answer:
    """Read an output; where no server has answered yet, once one does."""
    until = time.monotonic() + PATIENCE_SECONDS
    pause = threading.Event()
    while True:
        answer = read(client, request)
        # A stream that has begun goes on by itself; one that has not is the caller's to repeat.
        if not answer.get("error", "").startswith("UnavailableError") or answer["bytes"]:
            return answer
        if time.monotonic() > until:
            return answer
        pause.wait(0.05)


def read(client: Client, request: Request) -> Answer:
    """Read an output to its end, which may be the end of another server than its beginning."""
    digest, breaks, began = sha256(), [0], False

    def on_reconnect(_: object) -> None:
        breaks[0] += 1

    stream = client.output(
        request["job"],
        request.get("stream", "stdout"),
        reconnect_seconds=request.get("reconnect_seconds", PATIENCE_SECONDS),
        on_reconnect=on_reconnect,
    )
    answer: Answer = {"bytes": 0}
    with stream:
        try:
            for chunk in stream:
                digest.update(chunk)
                answer["bytes"] += len(chunk)
                if not began:
                    began = True
                    tell(request["number"], {"began": True})
        except JobbyClientError as error:
            answer["error"] = f"{type(error).__name__}: {error}"
        if stream.end is not None:
            reason = stream.end.reason
            answer["exit_code"] = stream.end.exit_code
            answer["reason"] = None if reason is None else reason.value
    return answer | {"sha256": digest.hexdigest(), "breaks": breaks[0]}


def crowd(client: Client, request: Request) -> Answer:
    """Run many short jobs, so many at a time; each says a number and exits with a part of it."""
    jobs: dict[str, int] = {}
    wrong: list[str] = []

    def one(number: int) -> None:
        command = ["sh", "-c", 'echo "$1"; exit "$2"', "sh", str(number), str(number % 200)]
        job = start(client, {"command": command})["job"]
        seen = follow(client, {"number": request["number"], "job": job})
        jobs[job] = number % 200
        want = sha256(f"{number}\n".encode()).hexdigest()
        if (seen["sha256"], seen.get("exit_code")) != (want, number % 200):
            wrong.append(f"job {number}: {seen}")

    with ThreadPoolExecutor(request["at_once"]) as pool:
        list(pool.map(one, range(request["count"])))
    return {"jobs": jobs, "wrong": wrong}


def ends(client: Client, request: Request) -> Answer:
    """Look how many jobs have ended."""

    def end(job: str) -> tuple[str, object]:
        found = status(client, {"job": job})
        return job, (found["reason"], found["exit_code"])

    with ThreadPoolExecutor(50) as pool:
        return {"ends": dict(pool.map(end, request["jobs"]))}


DEEDS = {
    "ends": ends,
    "start": start,
    "status": status,
    "stop": stop,
    "follow": follow,
    "crowd": crowd,
}


def do(client: Client, request: Request) -> None:
    """Do what one request asks."""
    try:
        answer = DEEDS[request["do"]](client, request)
    except Exception as error:  # noqa: BLE001 - whoever asked is told
        answer = {"error": f"{type(error).__name__}: {error}"}
    tell(request["number"], answer | {"done": True})


def main() -> None:
    """Do what stdin says, until it ends."""
    credentials = Credentials.from_files("ca.cert", "client.cert", "client.key")
    with Client(sys.argv[1], credentials) as client:
        for line in sys.stdin:
            threading.Thread(target=do, args=(client, json.loads(line)), daemon=True).start()


if __name__ == "__main__":
    main()
