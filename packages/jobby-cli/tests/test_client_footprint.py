"""A client leaves the process that uses it as it was, and lets it end."""

import os
import subprocess
import sys

import pytest
from cli_authority import Authority
from cli_peer import Peer, end_of
from cli_waiting import DEADLINE_SECONDS

from jobby_proto.v1 import jobby_pb2 as pb


def test_a_client_leaves_nothing_behind(ca: Authority, peer: Peer) -> None:
    """Descriptors and threads after it are those before it."""
    program = (
        "import os, sys, threading, time\n"
        "from jobby_client import Client, Credentials\n"
        "def held():\n"
        "    return len(os.listdir('/proc/self/fd')), len(os.listdir('/proc/self/task'))\n"
        "def use():\n"
        "    with Client(sys.argv[1], Credentials.from_files(*sys.argv[2:])) as client:\n"
        "        job = client.start('x')\n"
        "        list(client.output(job)); client.status(job); client.output(job).close()\n"
        "use()\n"
        "before = held()\n"
        "for _ in range(50): use()\n"
        # gRPC closes connections in its own time, in threads of its own.
        "end = time.monotonic() + 60\n"
        "while any(now > then for now, then in zip(held(), before)):\n"
        "    assert time.monotonic() < end, (before, held())\n"
        "    threading.Event().wait(0.01)\n"
    )
    leaf = ca.leaf()
    paths = []
    for name, content in (("ca", ca.pem), ("cert", leaf.cert), ("key", leaf.key)):
        fd = os.memfd_create(name, 0)
        os.fchmod(fd, 0o600)
        os.write(fd, content)
        paths.append(fd)
    subprocess.run(
        [sys.executable, "-c", program, peer.address, *(f"/proc/self/fd/{fd}" for fd in paths)],
        pass_fds=paths,
        check=True,
    )
    for fd in paths:
        os.close(fd)


@pytest.mark.parametrize("way", ["wrong bytes", "closed", "whole"])
def test_a_program_ends_whatever_a_stream_was_doing(ca: Authority, peer: Peer, way: str) -> None:
    """gRPC's own thread, still busy with a stream's last event, doesn't keep a program from ending,
    though it holds the lock that the stream's own end needs."""
    program = (
        "import sys, threading, uuid\n"
        "from jobby_client import Client, Credentials, DataLossError\n"
        "in_there, at_the_end = threading.Event(), threading.Event()\n"
        # It is slow with the last event, under the lock: seldom otherwise, on a busy machine.
        # Should the program come to its end meanwhile, it finds the thread in there for good. That
        # it doesn't come shows in nothing but time; it's given much less than it waits for gRPC.
        "def slow(frame, event, argument):\n"
        "    if (frame.f_code.co_name, event) != ('_handle_event', 'return'):\n"
        "        return\n"
        "    if not frame.f_locals['state'].due:\n"
        "        in_there.set()\n"
        "        if at_the_end.wait(0.2):\n"
        "            threading.Event().wait()\n"
        "threading.setprofile(slow)\n"
        "def read(client, way):\n"
        "    stream = client.output(uuid.UUID(int=1))\n"
        "    cycle = [stream]\n"
        "    cycle.append(cycle)\n"  # for the collector to find, when the interpreter ends
        "    next(stream)\n"
        "    if way == 'closed':\n"
        "        return stream.close()\n"
        "    try:\n"
        "        assert (way, list(stream)) == ('whole', [])\n"
        "    except DataLossError:\n"
        "        assert way == 'wrong bytes'\n"
        "pems = sys.stdin.buffer.read().split(b'|')\n"
        "with Client(sys.argv[1], Credentials(*pems)) as client:\n"
        "    read(client, sys.argv[2])\n"
        "assert in_there.wait(30)\n"
        "at_the_end.set()\n"
    )
    wrong = [pb.GetJobOutputResponse(data=b"ab"), pb.GetJobOutputResponse(data=b"d", offset=3)]
    right = [pb.GetJobOutputResponse(data=b"ab"), end_of(2)]
    peer.servicer.on_output = lambda request, context: wrong if way == "wrong bytes" else right
    leaf = ca.leaf()
    subprocess.run(
        [sys.executable, "-c", program, peer.address, way],
        input=b"|".join([ca.pem, leaf.cert, leaf.key]),
        check=True,
        timeout=DEADLINE_SECONDS,
    )


def test_the_environment_is_not_touched(ca: Authority, peer: Peer) -> None:
    """Importing and using the package changes nothing in the process's environment."""
    program = (
        "import os, sys\n"
        "before = dict(os.environ)\n"
        "from jobby_client import Client, Credentials, UnavailableError\n"
        "pems = sys.stdin.buffer.read().split(b'|')\n"
        "with Client(sys.argv[1], Credentials(*pems)) as client:\n"
        "    client.start('x')\n"
        "assert dict(os.environ) == before\n"
    )
    leaf = ca.leaf()
    subprocess.run(
        [sys.executable, "-c", program, peer.address],
        input=b"|".join([ca.pem, leaf.cert, leaf.key]),
        check=True,
    )
