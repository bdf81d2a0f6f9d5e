"""Owns the generated stubs in packages/jobby-proto.

    ./tools/hatch run protoc            writes them from proto/jobby/v1/jobby.proto
    ./tools/hatch run protoc --check    only says whether they are up to date (exit code 1: stale)

The generators run in an environment of their own, made by uv on the fly.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

# Older than the newest on purpose: generated code refuses a runtime older than
# its generator, so the generator's age decides how old a protobuf and grpcio
# our users may have (the bounds stand in packages/jobby-proto/pyproject.toml).
GENERATORS = ("grpcio-tools==1.80.1", "mypy-protobuf==5.1.0")

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
SOURCE = PROTO / "jobby" / "v1" / "jobby.proto"
PACKAGE_SOURCE = ROOT / "packages" / "jobby-proto" / "src"
STUBS = ("jobby_pb2.py", "jobby_pb2.pyi", "jobby_pb2_grpc.py", "jobby_pb2_grpc.pyi")


def generate(out: Path) -> None:
    """Write the stubs below `out`, as jobby_proto/v1/….

    Mapping the virtual folder `jobby_proto` onto proto/jobby makes the
    generated imports read `from jobby_proto.v1 import jobby_pb2` while the
    package on the wire stays `jobby.v1`.
    """
    out.mkdir(parents=True, exist_ok=True)
    command = ["uv", "run", "--quiet", "--no-project", "--python", sys.executable]
    for generator in GENERATORS:
        command += ["--with", generator]
    command += [
        *("python", "-m", "grpc_tools.protoc"),
        f"-Ijobby_proto={PROTO / 'jobby'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        str(SOURCE),
    ]
    # Away from the repository's uv.toml: its constraints are for what runs, and
    # name a newer protobuf than these generators take.
    with tempfile.TemporaryDirectory(prefix="jobby-protoc-") as elsewhere:
        subprocess.run(command, cwd=elsewhere, check=True, stdin=subprocess.DEVNULL)


def stale() -> list[Path]:
    """The stubs in the tree that differ from what the contract generates now."""
    with tempfile.TemporaryDirectory(prefix="jobby-stubs-") as scratch:
        generate(Path(scratch))
        fresh = {
            Path("jobby_proto/v1", name): Path(scratch, "jobby_proto/v1", name).read_bytes()
            for name in STUBS
        }
    return [
        PACKAGE_SOURCE / path
        for path, content in fresh.items()
        if not (PACKAGE_SOURCE / path).is_file() or (PACKAGE_SOURCE / path).read_bytes() != content
    ]


def main() -> int:
    """Write the stubs, or compare them."""
    parser = argparse.ArgumentParser(description="Generate the stubs of jobby-proto.")
    parser.add_argument("--check", action="store_true", help="only compare; exit 1 when stale")
    arguments = parser.parse_args()
    if not arguments.check:
        generate(PACKAGE_SOURCE)
        return 0
    outdated = stale()
    for path in outdated:
        print(f"stale: {path.relative_to(ROOT)}", file=sys.stderr)
    if outdated:
        print("run `./tools/hatch run protoc` and commit the result", file=sys.stderr)
        return 1
    print("the stubs match proto/jobby/v1/jobby.proto")
    return 0


if __name__ == "__main__":
    sys.exit(main())
