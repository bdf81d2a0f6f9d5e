"""Owns what a client proves itself with: three PEM files, read once and looked over before a call.

A server that refuses a certificate closes the connection without a word, so
whatever can be wrong with one's own files is found out here, with the standard
library alone.
"""

import os
import re
import ssl
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from jobby_client import _handshake, _pem
from jobby_client.errors import CredentialsError
from jobby_client.samples import SAMPLE_SHA256

_WHAT: Final = {"ca": "the CA certificates", "cert": "the client certificate", "key": "its key"}
_MAKE: Final = "make certificates with `jobby certs init`, or name another file"
_MOST_BYTES: Final = 8 << 20
"""How long a file may be: a bundle of all public CAs has a quarter of a mebibyte."""
_RENEW: Final = "get a new certificate with the same name from whoever runs the CA"


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """What a client certificate says.

    Attributes:
        subject: its name, as one line of text that differs for different names.
        not_before: first valid moment.
        not_after: last valid moment.
    """

    subject: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client presents, and whom it trusts. Its `repr` shows no key.

    Attributes:
        ca_pem: the CAs whose servers are trusted, PEM.
        cert_pem: the client's certificate, then any intermediates, PEM.
        key_pem: its private key, PEM, without a password.
        paths: "ca", "cert" and "key" to the files they came from, if they did.
    """

    ca_pem: bytes = field(repr=False)
    cert_pem: bytes = field(repr=False)
    key_pem: bytes = field(repr=False)
    paths: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def from_files(
        cls, ca: str | os.PathLike[str], cert: str | os.PathLike[str], key: str | os.PathLike[str]
    ) -> Self:
        """Reads the three files.

        Raises:
            CredentialsError: one is missing, unreadable or not PEM, or others
                than its owner may read or change the key (a published sample
                key excepted).
        """
        paths = {"ca": Path(ca), "cert": Path(cert), "key": Path(key)}
        read = {role: _read(role, path) for role, path in paths.items()}
        credentials = cls(read["ca"][0], read["cert"][0], read["key"][0], paths)
        credentials.anchors()
        credentials._check_key_form()
        # A checkout makes every file 0644, and a sample's key is no secret anyway.
        if not credentials.is_sample():
            credentials._check_key_mode(read["key"][1])
        return credentials

    def check(self) -> CertificateInfo:
        """Looks everything over, in about 3 ms, and returns what the certificate says.

        Whether the CA in `ca_pem` signed the certificate is not judged: the
        server may trust another. See `signed_by_own_ca`.

        Raises:
            CredentialsError: no server could accept them: the key doesn't belong
                to the certificate, a date is past or to come, the certificate is
                not for clients, or gRPC cannot use its kind of key.
        """
        self._check_cas()
        leaf = self._chain()[0]
        self._check_key_form()
        if kind := _pem.unusable_key(leaf):
            cause = f"gRPC cannot use its kind of key ({kind})"
            self._fail("cert", cause, "get one with a P-256, P-384 or RSA key")
        try:
            # The certificate is its own trust anchor: it alone is in question.
            return _info(_handshake.rehearse(self.cert_pem, self.key_pem, leaf))
        except ssl.SSLCertVerificationError as error:
            self._fail_verification(error, leaf)
        except ssl.SSLError as error:
            self._fail_unusable(error)

    def signed_by_own_ca(self) -> bool:
        """Returns whether a CA in `ca_pem` signed the certificate, directly or through its chain.

        False doesn't have to be wrong, but when a server refuses the
        certificate, it is the likely reason.

        Raises:
            CredentialsError: a file cannot be read as what it should be.
        """
        self._check_key_form()
        try:
            _handshake.rehearse(self.cert_pem, self.key_pem, self.anchors(), check_dates=False)
        except ssl.SSLError:
            return False
        return True

    def is_sample(self) -> bool:
        """Returns whether the certificate is a published sample, whose key everybody has."""
        return sha256(self._chain()[0]).hexdigest() in SAMPLE_SHA256

    def anchors(self) -> bytes:
        """Returns the certificates in `ca_pem`, DER, one after the other.

        Raises:
            CredentialsError: there is none that can be read.
        """
        return b"".join(self._certificates("ca", self.ca_pem))

    def name(self, role: str) -> str:
        """Returns what to call one of the three in a sentence: its path, or what it is."""
        return str(self.paths.get(role, _WHAT[role]))

    def _chain(self) -> list[bytes]:
        return self._certificates("cert", self.cert_pem)

    def _certificates(self, role: str, pem: bytes) -> list[bytes]:
        try:
            return _pem.certificates(pem)
        except ValueError as error:
            self._fail(role, str(error), _MAKE)

    def _check_key_form(self) -> None:
        try:
            _pem.check_key(self.key_pem)
        except ValueError as error:
            self._fail("key", str(error), "name the certificate's key, stored without a password")

    def _check_key_mode(self, status: os.stat_result) -> None:
        # A key that root lends to a group is how secrets are mounted for a service.
        lent = status.st_uid == 0 and os.geteuid() != 0
        mode = stat.S_IMODE(status.st_mode)
        # A pipe's mode says nothing: `--key <(…)` is fine.
        if stat.S_ISREG(status.st_mode) and mode & ~(0o740 if lent else 0o700):
            cause = f"others may read or change it (mode {mode:04o})"
            self._fail("key", cause, "chmod 600 it, and consider a new key")

    def _check_cas(self) -> None:
        store = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        store.load_verify_locations(cadata=self.anchors())
        # What is no CA's isn't listed here, though gRPC trusts it if it is in the bundle.
        ends = [_moment(ca["notAfter"]) for ca in store.get_ca_certs()]
        if len(ends) == store.cert_store_stats()["x509"] and max(ends).timestamp() < time.time():
            way_out = "get the CA's new certificate, or look at this machine's clock"
            self._fail("ca", f"it expired at {max(ends)}", way_out)

    def _fail_verification(self, error: ssl.SSLCertVerificationError, leaf: bytes) -> NoReturn:
        if error.verify_code == _handshake.WRONG_PURPOSE:
            cause = "it is not for clients (its extended key usage lacks clientAuth)"
            self._fail("cert", cause, "name a client's certificate")
        if error.verify_code not in (_handshake.HAS_EXPIRED, _handshake.NOT_YET_VALID):
            self._fail("cert", error.verify_message, _RENEW)
        info = _info(_handshake.rehearse(self.cert_pem, self.key_pem, leaf, check_dates=False))
        if error.verify_code == _handshake.HAS_EXPIRED:
            self._fail("cert", f"it expired at {info.not_after}", _RENEW)
        cause = f"it is not valid before {info.not_before}"
        self._fail("cert", cause, "look at this machine's clock, or wait")

    def _fail_unusable(self, error: ssl.SSLError) -> NoReturn:
        match error.reason:
            # The last: a key of another type than the certificate's.
            case "KEY_VALUES_MISMATCH" | "KEY_TYPE_MISMATCH" | "NO_CERTIFICATE_ASSIGNED":
                cause = f"it is not the key of {self.name('cert')}"
                self._fail("key", cause, "name the two that were made together")
            case "EE_KEY_TOO_SMALL":
                self._fail("cert", "its key is too short to be safe", "get one with a P-256 key")
            case _:
                # The certificate was parsed before, so it is the key that cannot be.
                self._fail("key", "it holds no readable private key", "name the certificate's key")

    def _fail(self, role: str, cause: str, way_out: str) -> NoReturn:
        path = self.paths.get(role)
        raise CredentialsError(f"use {self.name(role)}", cause, way_out, role=role, path=path)


def _read(role: str, path: Path) -> tuple[bytes, os.stat_result]:
    way_out = _MAKE
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)  # a device has no end
            if len(content) > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES} bytes")
            return content, os.fstat(file.fileno())
    except FileNotFoundError:
        cause = "there is no such file"
    except PermissionError:
        cause, way_out = "you may not read it", "ask its owner, or name another file"
    except (OSError, ValueError) as error:
        cause = (isinstance(error, OSError) and error.strerror) or str(error)
    raise CredentialsError(f"read {_WHAT[role]} {path}", cause, way_out, role=role, path=path)


def _info(decoded: Mapping[str, Any]) -> CertificateInfo:
    subject = ",".join(
        "+".join(f"{kind}={_quoted(value)}" for kind, value in rdn) for rdn in decoded["subject"]
    )
    return CertificateInfo(subject, _moment(decoded["notBefore"]), _moment(decoded["notAfter"]))


def _quoted(value: str) -> str:
    return re.sub(r"([,+=\\])", r"\\\1", value)


def _moment(text: Any) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(text)), UTC)
