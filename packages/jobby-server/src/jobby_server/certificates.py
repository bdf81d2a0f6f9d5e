"""Owns the three certificate files: reads them once and looks them over before anything serves.

gRPC itself would start with most of what is refused here, and then no client
could connect, or the wrong ones could.
"""

import os
import stat
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from jobby_server.errors import ConfigError
from jobby_server.identity import MIN_RSA_BITS, extension, spki_sha256, utc_now
from jobby_server.samples import SAMPLE_SPKI_SHA256

EXPIRES_SOON = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Material:
    """What the server proves itself with, and the CAs whose clients it takes.

    Attributes:
        ca_pem: the bundle of CA certificates.
        cert_pem: the server's certificate, then any intermediates.
        key_pem: its private key.
        sample: whether the CA's or the server's key is a checked-in sample,
            whose private half everybody has.
        warnings: what an operator should know, though the server can run.
    """

    ca_pem: bytes
    cert_pem: bytes
    key_pem: bytes
    sample: bool = False
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Material sample={self.sample}>"  # the key has no business in a log


def read(
    ca: Path,
    cert: Path,
    key: Path,
    *,
    now: datetime | None = None,
    samples: AbstractSet[str] = SAMPLE_SPKI_SHA256,
) -> Material:
    """Reads and checks the files.

    Args:
        ca: the CA bundle, PEM.
        cert: the server's certificate, PEM.
        key: its private key, PEM, without a password.
        now: the time by which they are judged; None is the present.
        samples: SHA-256 of the public keys that count as samples.

    Raises:
        ConfigError: one of them cannot be used; the text says which and why.
    """
    now = now or utc_now()
    warnings: list[str] = []
    ca_pem, _ = _read(ca, "the CA bundle", "--ca")
    cas = _certificates(ca, ca_pem)
    _check_bundle(ca, cas, now, warnings)
    cert_pem, _ = _read(cert, "the server's certificate", "--cert")
    leaf = _certificates(cert, cert_pem)[0]
    _check_server_certificate(cert, leaf, now, warnings)
    key_pem, key_status = _read(key, "the server's key", "--key")
    key_spki = _check_key(key, key_pem, cert, leaf)
    sample = bool({key_spki, *map(spki_sha256, cas)} & samples)
    _check_key_mode(key, key_status, sample=key_spki in samples, warnings=warnings)
    return Material(ca_pem, cert_pem, key_pem, sample, tuple(warnings))


def _read(path: Path, what: str, option: str) -> tuple[bytes, os.stat_result]:
    way_out = f"make certificates with `jobby certs init`, or name the file with {option}"
    try:
        # O_NONBLOCK: a FIFO by that name must be refused, not waited for.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"cannot read {what} {path}: it is not a file; {way_out}")
            return file.read(), status
    except FileNotFoundError:
        cause = "there is no such file"
    except PermissionError:
        cause = "this user may not read it"
        way_out = "give it to the user that the server runs as"
    except OSError as error:
        cause = error.strerror or str(error)
    raise ConfigError(f"cannot read {what} {path}: {cause}; {way_out}")


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    if not pem.strip():
        raise ConfigError(f"cannot use {path}: it is empty; put certificates into it, as PEM")
    try:
        found = x509.load_pem_x509_certificates(pem)
        for certificate in found:
            # Parsed late, and each with errors of its own: all of them here.
            _ = certificate.subject, certificate.extensions, spki_sha256(certificate)
        return found
    except Exception as error:  # cryptography's parsers share no base class
        raise ConfigError(
            f"cannot use {path}: it holds no readable certificate in PEM form "
            "(-----BEGIN CERTIFICATE-----); convert it, or name another file"
        ) from error


def _check_bundle(
    path: Path, cas: list[x509.Certificate], now: datetime, warnings: list[str]
) -> None:
    for ca in cas:
        name = ca.subject.rfc4514_string()
        basic = extension(ca, x509.BasicConstraints)
        usage = extension(ca, x509.KeyUsage)
        if basic is None or not basic.ca or (usage is not None and not usage.key_cert_sign):
            # gRPC would take it as a trust anchor, and with it whoever holds its key.
            raise ConfigError(
                f"cannot use {path} as the CA bundle: the certificate of {name!r} is not a CA's; "
                "keep only CA certificates in it"
            )
        _check_key_type(path, ca, ca_certificate=True)
    causes = [_out_of_date(ca, now) for ca in cas]
    if all(causes):
        raise ConfigError(
            f"cannot use {path} as the CA bundle: {causes[0]}; renew the CA's certificate"
        )
    for ca, cause in zip(cas, causes, strict=True):
        if cause:
            warnings.append(f"{path}: {ca.subject.rfc4514_string()!r}: {cause}")


def _check_server_certificate(
    path: Path, leaf: x509.Certificate, now: datetime, warnings: list[str]
) -> None:
    cause = _out_of_date(leaf, now)
    if cause:
        raise ConfigError(f"cannot use {path}: {cause}; get a new certificate for the server")
    left = leaf.not_valid_after_utc - now
    if left < EXPIRES_SOON:
        warnings.append(f"{path} expires at {leaf.not_valid_after_utc}: renew it")
    purposes = extension(leaf, x509.ExtendedKeyUsage)
    if purposes is not None and ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
        raise ConfigError(
            f"cannot use {path}: it is not for servers (its extended key usage lacks serverAuth); "
            "name the server's certificate with --cert"
        )
    usage = extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise ConfigError(
            f"cannot use {path}: its key usage lacks digitalSignature, which TLS 1.3 needs; "
            "get another certificate for the server"
        )
    _check_key_type(path, leaf, ca_certificate=False)


def _out_of_date(certificate: x509.Certificate, now: datetime) -> str | None:
    if now < certificate.not_valid_before_utc:
        return f"it is not valid before {certificate.not_valid_before_utc} (is the clock right?)"
    if now > certificate.not_valid_after_utc:
        return f"it expired at {certificate.not_valid_after_utc}"
    return None


def _check_key_type(path: Path, certificate: x509.Certificate, *, ca_certificate: bool) -> None:
    key = certificate.public_key()
    match key:
        case rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            return
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
            return
        case rsa.RSAPublicKey():
            kind = f"RSA with {key.key_size} bits"
        case ec.EllipticCurvePublicKey():
            kind = key.curve.name
        case _:
            kind = type(key).__name__.removesuffix("PublicKey")
    # A CA only signs certificates, and there BoringSSL takes more than in a handshake.
    if ca_certificate and not isinstance(key, rsa.RSAPublicKey):
        return
    raise ConfigError(
        f"cannot use {path}: its key type ({kind}) is not accepted by gRPC or too weak; "
        f"use P-256, P-384, or RSA with at least {MIN_RSA_BITS} bits"
    )


def _check_key(path: Path, pem: bytes, cert: Path, leaf: x509.Certificate) -> str:
    """Returns the SHA-256 of the key's public half, which has to be the certificate's."""
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise ConfigError(
            f"cannot use {path}: it has a password, and nobody could type it; "
            "store the key without one, readable only by the server's user"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            f"cannot use {path}: it holds no readable private key in PEM form "
            "(-----BEGIN PRIVATE KEY-----); convert it, or name another file"
        ) from error
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    spki = sha256(der).hexdigest()
    if spki != spki_sha256(leaf):
        raise ConfigError(
            f"cannot use {path} with {cert}: the key is not that certificate's; "
            "name the two that were made together"
        )
    return spki


def _check_key_mode(
    path: Path, status: os.stat_result, *, sample: bool, warnings: list[str]
) -> None:
    # A key that root lends to the server's group is how secrets are mounted for a service.
    lent = status.st_uid == 0 and os.geteuid() != 0
    excess = stat.S_IMODE(status.st_mode) & ~(0o740 if lent else 0o700)
    if not excess:
        return
    cause = f"others may read or change it (mode {stat.S_IMODE(status.st_mode):04o})"
    if not sample:
        raise ConfigError(f"cannot use {path}: {cause}; chmod 600 it, and consider a new key")
    # A checkout makes every file 0644, and this key is no secret anyway.
    warnings.append(f"{path}: {cause}")
