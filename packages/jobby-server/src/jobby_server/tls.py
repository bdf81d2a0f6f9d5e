"""Owns the TLS side of the server: its credentials, and the proof that only TLS 1.3 is spoken."""

import asyncio
import socket
import ssl

import grpc
import grpc.aio

from jobby_server.certificates import Material
from jobby_server.errors import TlsPolicyError

_TIMEOUT_SECONDS = 10.0
# RFC 8446, section 5.1: the first byte of a TLS record.
_ALERT = 0x15
_HANDSHAKE = 0x16


def credentials(material: Material) -> grpc.ServerCredentials:
    """Returns what gRPC serves with; every client has to present a certificate."""
    return grpc.ssl_server_credentials(
        [(material.key_pem, material.cert_pem)], material.ca_pem, require_client_auth=True
    )


async def prove_tls13_only(material: Material) -> None:
    """Checks, on a throwaway server on loopback, what these credentials accept.

    gRPC can only be told through the environment, and only before it is
    loaded; a mistake there would go unnoticed.

    Raises:
        TlsPolicyError: TLS 1.2 is accepted, or TLS 1.3 is not.
    """
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    try:
        port = server.add_secure_port("127.0.0.1:0", credentials(material))
    except RuntimeError as error:
        raise TlsPolicyError(
            "cannot serve: gRPC does not take these certificates (its own log says why); "
            "check them, and that 127.0.0.1 may be listened on"
        ) from error
    await server.start()
    try:
        # TLS 1.3 first: it shows that silence to the other question means a refusal.
        new = await asyncio.to_thread(_answer, port, ssl.TLSVersion.TLSv1_3)
        old = await asyncio.to_thread(_answer, port, ssl.TLSVersion.TLSv1_2)
    finally:
        await server.stop(None)
    judge(new, old)


def judge(new: int | None, old: int | None) -> None:
    """Decides on the first byte of the answers to TLS 1.3 and 1.2; None is no answer.

    Raises:
        TlsPolicyError: anything but "accepted" and "refused".
    """
    if new != _HANDSHAKE:
        raise TlsPolicyError(
            f"cannot serve: the TLS library refuses TLS 1.3 with these certificates "
            f"(answer {_shown(new)}); check them and the installed grpcio"
        )
    if old not in (None, _ALERT):
        raise TlsPolicyError(
            f"cannot serve: the TLS library would accept TLS 1.2 (answer {_shown(old)}); "
            "start the server by its own command, which sets GRPC_SSL_CIPHER_SUITES "
            "before grpc is imported, and report this if you did"
        )


def _answer(port: int, version: ssl.TLSVersion) -> int | None:
    """Sends a ClientHello of one version; returns the first byte of the answer, None for none.

    Only the first message is exchanged. A whole handshake would say less: it
    fails anyway, for want of a client certificate.
    """
    hello = _client_hello(version)
    try:
        with socket.create_connection(("127.0.0.1", port), _TIMEOUT_SECONDS) as connection:
            connection.sendall(hello)
            answer = connection.recv(1)
    except ConnectionError:
        return None
    except OSError as error:
        raise TlsPolicyError(
            f"cannot serve: the TLS self-check on 127.0.0.1:{port} got no answer: {error}; "
            "check that loopback connections are allowed"
        ) from error
    return answer[0] if answer else None


def _client_hello(version: ssl.TLSVersion) -> bytes:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is trusted: the answer's first byte is all
    context.set_alpn_protocols(["h2"])
    try:
        context.minimum_version = context.maximum_version = version
        if version is ssl.TLSVersion.TLSv1_2:
            # Everything there is: a suite that only this probe lacks must not look refused.
            context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            return outgoing.read()
    except (ssl.SSLError, ValueError) as error:
        raise TlsPolicyError(
            f"cannot check the TLS policy: this Python's OpenSSL cannot say hello in "
            f"{version.name}: {error}; use one that can"
        ) from error
    raise AssertionError("a handshake cannot end without an answer")


def _shown(answer: int | None) -> str:
    return "none" if answer is None else f"0x{answer:02x}"
