"""What jobby-proto declares to need is what its generated code asks for."""

import ast
import importlib.util
import re
from importlib.metadata import requires
from pathlib import Path

import jobby_proto.v1


def generated(name: str) -> str:
    """The text of a generated module."""
    (folder,) = jobby_proto.v1.__path__
    return Path(folder, name).read_text()


def declared_minimum(distribution: str) -> str:
    """The lower bound that jobby-proto's metadata declares for a dependency."""
    (requirement,) = (
        line for line in requires("jobby-proto") or () if re.match(rf"{distribution}\b[^;]*$", line)
    )
    (bound,) = re.findall(r">=([\d.]+)", requirement)
    assert isinstance(bound, str)
    return bound


def test_the_protobuf_bound_is_the_generators_version() -> None:
    """The stubs load on the oldest protobuf that pip would install with them."""
    call = next(
        node
        for node in ast.walk(ast.parse(generated("jobby_pb2.py")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "ValidateProtobufRuntimeVersion"
    )
    major, minor, patch = (ast.literal_eval(argument) for argument in call.args[1:4])
    assert declared_minimum("protobuf") == f"{major}.{minor}.{patch}"


def test_the_grpcio_bound_is_the_generators_version() -> None:
    """The stubs load on the oldest grpcio that pip would install with them."""
    (version,) = re.findall(
        r"^GRPC_GENERATED_VERSION = '([\d.]+)'$", generated("jobby_pb2_grpc.py"), re.MULTILINE
    )
    assert declared_minimum("grpcio") == version


def test_the_package_is_marked_as_typed() -> None:
    """Type checkers read the stubs of an installed jobby-proto."""
    spec = importlib.util.find_spec("jobby_proto")
    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).with_name("py.typed").is_file()
