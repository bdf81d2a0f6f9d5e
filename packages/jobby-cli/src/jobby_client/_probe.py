"""Owns the second look: why there is no connection, in words gRPC doesn't have.

gRPC tells "no server", "it doesn't trust us" and "we don't trust it" by nearly
the same status. So after a failure a plain TLS connection is made once, with
the same files, and watched: who refuses whom shows in where it ends. That we
are refused has to show more than once.
"""

import socket
import ssl
from dataclasses import dataclass
from enum import Enum
from typing import Final

from jobby_client._handshake import NO_PASSWORD, in_memory
from jobby_client.address import Address
from jobby_client.credentials import Credentials

_TIMEOUT_SECONDS: Final = 4.0
# gRPC's servers refuse a certificate without an alert. So a refusal looks like a connection that a
# bad network has cut just there, but is the same each time.
_REFUSALS: Final = 3
# openssl/x509_vfy.h: self-signed, self-signed in the chain, no issuer, no first certificate, and
# a signature that doesn't fit an issuer of that name.
_UNKNOWN_ISSUER: Final = (18, 19, 20, 21, 7)


class Verdict(Enum):
    """What the second look found."""

    NO_SERVER = "nothing that answers"
    NOT_JOBBY = "something else answers"
    UNTRUSTED = "we don't trust its certificate"
    REFUSED = "it doesn't trust our certificate"
    HEALTHY = "it answers, now"


@dataclass(frozen=True, slots=True)
class Finding:
    """What the second look found, and the words for it.

    Attributes:
        verdict: which of the cases.
        cause: why, without a full stop.
        way_out: what can be done about it.
    """

    verdict: Verdict
    cause: str
    way_out: str


def probe(address: Address, credentials: Credentials) -> Finding:
    """Connects once more and says where that ends; takes some seconds at most."""
    finding = _look(address, credentials)
    for _ in range(_REFUSALS - 1):
        if finding.verdict is not Verdict.REFUSED:
            break
        finding = _look(address, credentials)
    return finding


def _look(address: Address, credentials: Credentials) -> Finding:
    try:
        connection = socket.create_connection((address.host, address.port), _TIMEOUT_SECONDS)
    except (socket.gaierror, UnicodeError):  # the latter from IDNA: an empty or too long label
        return Finding(
            Verdict.NO_SERVER,
            f"there is no machine called {address.host}",
            "check the server's address",
        )
    except TimeoutError:
        return Finding(
            Verdict.NO_SERVER,
            f"{address} doesn't answer",
            "check the server's address and the network",
        )
    except OSError as error:
        return Finding(
            Verdict.NO_SERVER,
            f"no server answers at {address} ({error.strerror or error})",
            "start it, or check its address",
        )
    with connection:
        return _shake_hands(connection, address, credentials)


def _shake_hands(connection: socket.socket, address: Address, credentials: Credentials) -> Finding:
    try:
        tls = _context(credentials).wrap_socket(connection, server_hostname=address.host)
    except ssl.SSLCertVerificationError as error:
        return _untrusted(error, address, credentials.name("ca"))
    except TimeoutError:
        return _not_jobby(address, "doesn't answer as a TLS server does")
    except OSError as error:
        # That there is no more is an SSLError, too (in Python 3.11.2 SSLZeroReturnError); how else
        # it ends is up to the kernel.
        closed = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
        if isinstance(error, ssl.SSLError) and not isinstance(error, closed):
            reason = (error.reason or str(error)).replace("_", " ").lower()
            return _not_jobby(address, f"doesn't speak TLS 1.3 ({reason})")
        return Finding(
            Verdict.NO_SERVER,
            f"{address} closes the connection at once",
            "it may be starting, ending or full: try again",
        )
    with tls:
        return _await_first_word(tls, address, credentials)


def _untrusted(error: ssl.SSLCertVerificationError, address: Address, ca: str) -> Finding:
    if error.verify_code in _UNKNOWN_ISSUER:
        cause = f"it was not signed by a CA in {ca}"
        way_out = "check the server's address, and get the file with its CA"
    else:
        cause = error.verify_message.rstrip(".")
        way_out = "check the server's address and this machine's clock, or tell its operator"
    return Finding(
        Verdict.UNTRUSTED, f"the certificate of {address} is not trusted: {cause}", way_out
    )


def _await_first_word(tls: ssl.SSLSocket, address: Address, credentials: Credentials) -> Finding:
    # In TLS 1.3 the client is done before the server has looked at its certificate (RFC 8446,
    # section 2). A server that takes it speaks first (SETTINGS: RFC 9113, section 3.4), one that
    # doesn't closes, with or without an alert.
    alert = ""
    try:
        heard = tls.recv(1)
    except TimeoutError:
        return _not_jobby(address, "says nothing, so it is no gRPC server")
    except ssl.SSLError as error:
        heard, alert = b"", (error.reason or "").replace("_", " ").lower()
    except OSError:
        heard = b""
    if heard:
        return Finding(
            Verdict.HEALTHY, "the connection broke", "the server answers again: try again"
        )
    cause = f"the server at {address} doesn't accept {credentials.name('cert')}"
    cause += f" ({alert})" if alert else ""
    if credentials.signed_by_own_ca():
        way_out = "check that it is from that server's CA and that this machine's clock is right"
    else:
        cause += f"; it was not signed by the CA in {credentials.name('ca')}"
        way_out = "get one that was"
    return Finding(Verdict.REFUSED, cause, way_out)


def _context(credentials: Credentials) -> ssl.SSLContext:
    """Returns a context that trusts and presents the same as gRPC does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=credentials.anchors())
    context.set_alpn_protocols(["h2"])
    with in_memory(credentials.cert_pem) as cert, in_memory(credentials.key_pem) as key:
        context.load_cert_chain(cert, key, NO_PASSWORD)
    return context


def _not_jobby(address: Address, cause: str) -> Finding:
    return Finding(
        Verdict.NOT_JOBBY, f"what listens at {address} {cause}", "check the server's address"
    )
