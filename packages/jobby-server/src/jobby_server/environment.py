"""Owns the process's environment: what gRPC must find in it, and what the jobs get of it.

Importing this module changes `os.environ`. It has to be imported before grpc:
gRPC reads these variables once, when it is loaded, and ignores them later.
"""

import os
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

GRPC_POLICY: Final[Mapping[str, str]] = MappingProxyType(
    {
        # gRPC has no argument for the lowest TLS version. This list governs TLS 1.2 and
        # older only (the suites of TLS 1.3 are not configurable in BoringSSL's ssl.h), and
        # its one suite needs a pre-shared key, which gRPC never has: nothing below TLS 1.3
        # can be negotiated. `tls.prove_tls13_only` looks whether that still holds.
        "GRPC_SSL_CIPHER_SUITES": "ECDHE-PSK-CHACHA20-POLY1305",
        # gRPC's fork handlers stop its threads around every fork and have killed children.
        "GRPC_ENABLE_FORK_SUPPORT": "0",
    }
)

_GRPC_LOG = "GRPC_VERBOSITY"

OWN_VARIABLES: Final = frozenset(
    {
        "JOBBY_CA",
        "JOBBY_CERT",
        "JOBBY_CONFIG",
        "JOBBY_INSECURE_EXPOSE_SAMPLE_CERTIFICATES",
        "JOBBY_KEEP_BYTES",
        "JOBBY_KEEP_DAYS",
        "JOBBY_KEEP_JOBS",
        "JOBBY_KEY",
        "JOBBY_LISTEN",
        "JOBBY_LOG_LEVEL",
        "JOBBY_OUTPUT_DIR",
        "JOBBY_STATE_DIR",
        "JOBBY_STOP_JOBS_ON_EXIT",
    }
)
"""The server's own settings. A job doesn't get them: a client that a job runs would take
the server's key for its own."""


def _adopt() -> Mapping[str, str]:
    """Puts the policy into the environment; returns what a job gets: the rest, as it was."""
    if "grpc" in sys.modules and any(os.environ.get(k) != v for k, v in GRPC_POLICY.items()):
        raise RuntimeError(
            "cannot set the TLS policy: grpc was imported before jobby_server.environment "
            "and has read the environment already; import this module first"
        )
    inherited = {k: v for k, v in os.environ.items() if k not in OWN_VARIABLES}
    os.environ.update(GRPC_POLICY)
    return MappingProxyType(inherited)


JOB_ENVIRONMENT: Final[Mapping[str, str]] = _adopt()
"""The environment of every job: the server's own, without what only the server needs."""


def quiet_grpc(*, debug: bool) -> None:
    """Sets how much gRPC's own library logs, unless the operator did; before grpc is imported.

    Args:
        debug: whether every failed handshake is a line, as it is by default.
    """
    os.environ.setdefault(_GRPC_LOG, "INFO" if debug else "ERROR")
