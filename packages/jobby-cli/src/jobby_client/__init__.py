"""Start, look at, follow and stop commands on a Jobby server, from Python.

`Client` is imported on first use: a program that only handles credentials or
errors never loads grpc.
"""

from typing import TYPE_CHECKING, Any

from jobby_client.address import Address
from jobby_client.credentials import CertificateInfo, Credentials
from jobby_client.errors import (
    BrokenStreamError,
    CannotStartError,
    ClientClosedError,
    CredentialsError,
    DataLossError,
    InternalServerError,
    InvalidRequestError,
    JobbyClientError,
    LimitError,
    NotFoundError,
    PreconditionError,
    RefusedError,
    StreamClosedError,
    UnavailableError,
    UnknownStartError,
)
from jobby_client.status import OutputEnd, Reason, State, Status, Stream, Usage

if TYPE_CHECKING:
    from jobby_client.client import Client
    from jobby_client.output import OutputStream

__all__ = [
    "Address",
    "BrokenStreamError",
    "CannotStartError",
    "CertificateInfo",
    "Client",
    "ClientClosedError",
    "Credentials",
    "CredentialsError",
    "DataLossError",
    "InternalServerError",
    "InvalidRequestError",
    "JobbyClientError",
    "LimitError",
    "NotFoundError",
    "OutputEnd",
    "OutputStream",
    "PreconditionError",
    "Reason",
    "RefusedError",
    "State",
    "Status",
    "Stream",
    "StreamClosedError",
    "UnavailableError",
    "UnknownStartError",
    "Usage",
]


def __getattr__(name: str) -> Any:
    """Imports what needs grpc, when it is asked for (PEP 562)."""
    if name == "Client":
        from jobby_client.client import Client

        return Client
    if name == "OutputStream":
        from jobby_client.output import OutputStream

        return OutputStream
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
