"""What a user gets who installs one of our distributions: that, what it needs, and no more."""

import importlib.util
import subprocess
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from harness.cache import PACKAGES, ROOT
from harness.environments import Installed
from harness.wheels import NAMES

CRYPTOGRAPHY = {"cryptography", "cffi", "pycparser"}
GRPC = {"grpcio", "protobuf", "typing-extensions"}
SETS = {
    "library": {"jobby-core", "watchdog"},
    "server": {
        *("jobby-server", "jobby-core", "jobby-proto", "watchdog"),
        *GRPC,
        *("grpcio-health-checking", "grpcio-reflection"),
        *CRYPTOGRAPHY,
    },
    "client": {"jobby-cli", "jobby-proto", *GRPC, "click"},
    "certs": {"jobby-cli", "jobby-proto", *GRPC, "click", *CRYPTOGRAPHY},
}
PACKAGES_IN = {
    "jobby-core": {"jobby_core"},
    "jobby-proto": {"jobby_proto"},
    "jobby-server": {"jobby_server"},
    "jobby-cli": {"jobby_client", "jobby_cli"},
}
# Entry points come first: they prepare the environment before grpc is imported.
IMPORTABLE = {
    "library": ("jobby_core",),
    "server": ("jobby_server.main", "jobby_server", "jobby_core", "jobby_proto"),
    "client": ("jobby_cli.main", "jobby_cli", "jobby_client", "jobby_proto"),
    "certs": ("jobby_cli.main", "jobby_cli", "jobby_client", "jobby_proto"),
}
# What needs an extra that the environment does not have.
NEEDS_EXTRA = {"client": "jobby_cli.certificates"}
OURS = sorted(set().union(*PACKAGES_IN.values()))

# Imports the modules that it is given, and all below those that are packages.
IMPORT_ALL = """
import importlib, pkgutil, sys
without, *names = sys.argv[1:]
for name in names:
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), name + "."):
        if found.name != without and not found.name.endswith("__main__"):
            importlib.import_module(found.name)
"""


def import_all(installed: Installed, environment: str) -> None:
    """Import all that an environment has of ours; a warning is an error."""
    python = getattr(installed, environment).python
    names = (NEEDS_EXTRA.get(environment, ""), *IMPORTABLE[environment])
    subprocess.run([python, "-I", "-W", "error", "-c", IMPORT_ALL, *names], check=True)


def test_the_test_runner_has_none_of_our_packages() -> None:
    """No test here can import from the working tree by accident."""
    assert [name for name in OURS if importlib.util.find_spec(name)] == []


@pytest.mark.parametrize("environment", SETS)
def test_exactly_what_is_declared_is_installed(installed: Installed, environment: str) -> None:
    """The library brings no grpc, the client neither the library nor the server."""
    assert set(getattr(installed, environment).distributions()) == SETS[environment]


@pytest.mark.parametrize("environment", IMPORTABLE)
def test_every_module_imports(installed: Installed, environment: str) -> None:
    """Nothing that a module imports is missing from what its distribution declares."""
    import_all(installed, environment)


@pytest.mark.parametrize("environment", IMPORTABLE)
def test_every_module_imports_with_the_lowest_versions(lowest: Installed, environment: str) -> None:
    """Each declared lower bound is one that works, not a guess."""
    import_all(lowest, environment)


@pytest.mark.parametrize("environment", SETS)
def test_the_lowest_versions_are_the_declared_ones(lowest: Installed, environment: str) -> None:
    """Every dependency declares a lower bound, and the test above ran on exactly those."""
    found = getattr(lowest, environment).distributions()
    bounds: dict[str, Version] = {}
    for distribution in set(NAMES) & SETS[environment]:
        for text in lowest.wheels.metadata(distribution).get_all("Requires-Dist", []):
            requirement = Requirement(text)
            if requirement.name in set(found) - set(NAMES):
                (minimum,) = (each for each in requirement.specifier if each.operator == ">=")
                # Where two of ours need the same, the higher bound counts.
                bound = Version(minimum.version)
                bounds[requirement.name] = max(bound, bounds.get(requirement.name, bound))
    assert {name: Version(found[name]) for name in bounds} == bounds


@pytest.mark.parametrize("name", NAMES)
def test_each_distribution_carries_the_licence(installed: Installed, name: str) -> None:
    """The wheel and the sdist hold the repository's LICENSE, byte for byte, and name it."""
    licence = (ROOT / "LICENSE").read_bytes()
    assert (PACKAGES / name / "LICENSE").read_bytes() == licence

    with ZipFile(installed.wheels.wheel(name)) as wheel:
        (entry,) = (each for each in wheel.namelist() if each.endswith("licenses/LICENSE"))
        assert wheel.read(entry) == licence
    with tarfile.open(installed.wheels.sdist(name)) as sdist:
        (member,) = (each for each in sdist if Path(each.name).parts[1:] == ("LICENSE",))
        file = sdist.extractfile(member)
        assert file is not None
        assert file.read() == licence
    assert installed.wheels.metadata(name)["License-Expression"] == "Apache-2.0"


@pytest.mark.parametrize("name", NAMES)
def test_each_package_is_typed(installed: Installed, name: str) -> None:
    """A wheel holds its import packages, each with py.typed, and beside them the server's unit."""
    with ZipFile(installed.wheels.wheel(name)) as wheel:
        files = {entry for entry in wheel.namelist() if ".dist-info/" not in entry}
    beside = {entry for entry in files if entry.split("/")[0] not in PACKAGES_IN[name]}
    assert {entry.split("/", 1)[1] for entry in beside} == (
        {f"data/lib/systemd/system/{name}.service"} if name == "jobby-server" else set()
    )
    assert {f"{package}/py.typed" for package in PACKAGES_IN[name]} <= files
