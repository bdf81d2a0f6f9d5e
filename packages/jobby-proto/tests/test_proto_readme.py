"""Promises of the stubs' own page: its program runs as it stands there."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from jobby_proto.v1 import jobby_pb2

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
JOB = bytes(range(16))
USE = """
import sys

with grpc.insecure_channel(sys.argv[1]) as channel:
    print(state(channel, bytes(range(16))))
"""


def answer(request: jobby_pb2.GetStatusRequest, context: object) -> jobby_pb2.GetStatusResponse:
    """Knows one job, which has ended."""
    assert request.job_id == JOB
    return jobby_pb2.GetStatusResponse(current_status=jobby_pb2.STATUS_COMPLETE)


def test_its_program_runs() -> None:
    """The function asks a server for a job's state, and returns its name."""
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    with ThreadPoolExecutor() as pool:
        server = grpc.server(pool)
        handler = grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=jobby_pb2.GetStatusRequest.FromString,
            response_serializer=jobby_pb2.GetStatusResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("jobby.v1.Jobby", {"GetStatus": handler})]
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", program + USE, f"127.0.0.1:{port}"],
                capture_output=True,
                text=True,
                check=True,
            )
        finally:
            server.stop(None).wait()
    assert (done.stdout, done.stderr) == ("STATUS_COMPLETE\n", "")
