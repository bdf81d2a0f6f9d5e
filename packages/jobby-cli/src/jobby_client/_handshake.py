"""Owns the rehearsal: a TLS handshake in memory that shows what a server will say of a certificate.

The standard library cannot parse a certificate by itself, but its TLS can be
made to judge one: a server that asks for the client's certificate, and a client
that presents it, both in this process, without a socket. OpenSSL then says in
its own words what is wrong, and decodes the certificate when nothing is.
"""

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

# From openssl/x509_vfy.h.
NOT_YET_VALID: Final = 9
HAS_EXPIRED: Final = 10
WRONG_PURPOSE: Final = 26
_NO_CHECK_TIME: Final = 0x200000

NO_PASSWORD: Final = ""
"""Keeps OpenSSL from asking for a key's password on the terminal. From 3.6 on it also asks when
the key's label (RFC 7468, section 10) does not say that it has one."""


def rehearse(
    cert_pem: bytes, key_pem: bytes, anchors_der: bytes, *, check_dates: bool = True
) -> Mapping[str, Any]:
    """Presents a client certificate to a server that trusts just `anchors_der`.

    Args:
        cert_pem: the certificate, then any intermediates.
        key_pem: its private key.
        anchors_der: the trusted certificates, DER, one after the other.
        check_dates: whether the certificates' dates count.

    Returns:
        the certificate, decoded as `ssl.SSLSocket.getpeercert` does.

    Raises:
        ssl.SSLCertVerificationError: the server side refuses it; `verify_code` says why.
        ssl.SSLError: certificate and key cannot be used at all.
    """
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.check_hostname = False
    # The client side looks at nothing: what it is shown is its own certificate,
    # because a server has to show one and there is no other.
    client_side.verify_mode = ssl.CERT_NONE
    with in_memory(cert_pem) as cert_path, in_memory(key_pem) as key_path:
        for context in (server_side, client_side):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_cert_chain(cert_path, key_path, NO_PASSWORD)
    server_side.verify_mode = ssl.CERT_REQUIRED
    # As gRPC does: whatever is in the bundle is trusted, the root needn't be there.
    server_side.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    if not check_dates:
        server_side.verify_flags |= _NO_CHECK_TIME
    server_side.load_verify_locations(cadata=anchors_der)
    return _shake(server_side, client_side)


def _shake(server_side: ssl.SSLContext, client_side: ssl.SSLContext) -> Mapping[str, Any]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    client = client_side.wrap_bio(to_client, to_server)
    # TLS 1.3 (RFC 8446, section 2): hello, then all of the server, then the rest of the client.
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    certificate = server.getpeercert()
    assert certificate, "a server that requires a certificate has one after the handshake"
    return certificate


@contextmanager
def in_memory(content: bytes) -> Iterator[str]:
    """Gives bytes a path, because OpenSSL takes paths only; the key never touches a disk."""
    fd = os.memfd_create("jobby", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
