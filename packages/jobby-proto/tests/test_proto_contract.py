"""The published contract keeps the names, numbers and types that clients were generated from."""

import subprocess
import sys

import pytest
from google.protobuf.descriptor import FieldDescriptor, FileDescriptor, MethodDescriptor

from jobby_proto.v1 import jobby_pb2

CONTRACT: FileDescriptor = jobby_pb2.DESCRIPTOR

# Message, field: number, type, repeated. Never to be changed, only added to.
FIELDS = {
    ("StartJobRequest", "command"): (1, FieldDescriptor.TYPE_STRING, False),
    ("StartJobRequest", "args"): (2, FieldDescriptor.TYPE_STRING, True),
    ("StartJobResponse", "job_id"): (1, FieldDescriptor.TYPE_BYTES, False),
    ("StopJobRequest", "job_id"): (1, FieldDescriptor.TYPE_BYTES, False),
    ("GetStatusRequest", "job_id"): (1, FieldDescriptor.TYPE_BYTES, False),
    ("GetStatusResponse", "current_status"): (1, FieldDescriptor.TYPE_ENUM, False),
    ("GetStatusResponse", "exit_code"): (2, FieldDescriptor.TYPE_INT32, False),
    ("GetJobOutputRequest", "job_id"): (1, FieldDescriptor.TYPE_BYTES, False),
    ("GetJobOutputRequest", "type"): (2, FieldDescriptor.TYPE_ENUM, False),
    ("GetJobOutputResponse", "data"): (1, FieldDescriptor.TYPE_BYTES, False),
}

ENUMS = {
    "Status": {
        "STATUS_UNSPECIFIED": 0,
        "STATUS_RUNNING": 1,
        "STATUS_STOPPED": 2,
        "STATUS_COMPLETE": 3,
    },
    "OutputType": {
        "OUTPUT_TYPE_UNSPECIFIED": 0,
        "OUTPUT_TYPE_STDOUT": 1,
        "OUTPUT_TYPE_STDERR": 2,
    },
}

# Method: request, response, whether the response is a stream.
METHODS = {
    "StartJob": ("StartJobRequest", "StartJobResponse", False),
    "StopJob": ("StopJobRequest", "StopJobResponse", False),
    "GetStatus": ("GetStatusRequest", "GetStatusResponse", False),
    "GetJobOutput": ("GetJobOutputRequest", "GetJobOutputResponse", True),
}


@pytest.mark.parametrize(("message", "field"), FIELDS)
def test_fields_keep_their_number_and_type(message: str, field: str) -> None:
    """A client that was generated from the first contract still understands each field."""
    descriptor = CONTRACT.message_types_by_name[message].fields_by_name[field]
    found = (descriptor.number, descriptor.type, descriptor.is_repeated)
    assert found == FIELDS[message, field]


def test_the_exit_code_can_be_absent() -> None:
    """No exit code and exit code 0 are different answers."""
    assert not jobby_pb2.GetStatusResponse().HasField("exit_code")
    assert jobby_pb2.GetStatusResponse(exit_code=0).HasField("exit_code")


@pytest.mark.parametrize("enum", ENUMS)
def test_enums_keep_their_numbers(enum: str) -> None:
    """An old client reads each value as what it was."""
    values = CONTRACT.enum_types_by_name[enum].values_by_name
    assert {name: values[name].number for name in ENUMS[enum]} == ENUMS[enum]


@pytest.mark.parametrize("method", METHODS)
def test_methods_keep_their_messages(method: str) -> None:
    """Each call takes and returns what it did, as a stream where it was one."""
    descriptor: MethodDescriptor = CONTRACT.services_by_name["Jobby"].methods_by_name[method]
    found = (
        descriptor.input_type.name,
        descriptor.output_type.name,
        descriptor.server_streaming,
    )
    assert found == METHODS[method]
    assert not descriptor.client_streaming


def test_the_package_on_the_wire_is_versioned() -> None:
    """The Python import path does not leak into the name that clients call."""
    assert CONTRACT.services_by_name["Jobby"].full_name == "jobby.v1.Jobby"


def test_importing_the_messages_does_not_import_grpc() -> None:
    """A program may set grpc's environment after importing jobby_proto and its messages."""
    program = "import sys, jobby_proto.v1.jobby_pb2; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
