"""Each certificate that `jobby certs` makes is for one purpose and for so long."""

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cli_command import Cli
from cli_files import load
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from jobby_client import Credentials


def usage(certificate: x509.Certificate) -> x509.KeyUsage:
    """The critical key usage of a certificate."""
    found = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert found.critical
    return found.value


def purposes(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    """The critical extended key usages of a certificate."""
    found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert found.critical
    return list(found.value)


def alternatives(certificate: x509.Certificate) -> list[x509.GeneralName]:
    """The alternative names of a certificate."""
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def test_the_profile_of_the_ca(bare: Cli) -> None:
    """A CA: P-256, SHA-256, only for signing, no CA below it, no constraint on names."""
    assert bare("certs", "init").code == 0
    ca = load(bare.folder / "ca.crt")
    key = ca.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert isinstance(ca.signature_hash_algorithm, hashes.SHA256)
    basic = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert usage(ca).key_cert_sign
    assert not usage(ca).digital_signature
    with pytest.raises(x509.ExtensionNotFound):
        ca.extensions.get_extension_for_class(x509.NameConstraints)
    assert ca.not_valid_after_utc - datetime.now(UTC) > timedelta(days=3600)


def test_the_profile_of_a_server(bare: Cli) -> None:
    """A server: for servers only, by DNS and IP names, localhost always among them."""
    assert bare("certs", "init", "--host", "jobs.example.org", "--host", "10.0.0.7").code == 0
    server = load(bare.folder / "server.cert")
    assert purposes(server) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert usage(server).digital_signature
    assert not usage(server).key_cert_sign
    assert alternatives(server) == [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
        x509.DNSName("jobs.example.org"),
        x509.IPAddress(ipaddress.ip_address("10.0.0.7")),
    ]


def test_the_profile_of_a_client(bare: Cli) -> None:
    """A client: for clients only, one URI, the name as CN, groups as O and OU."""
    assert bare("certs", "init", "--client", "alice", "--org", "Example Inc").code == 0
    assert (
        bare("certs", "client", "Zoë B", "--unit", "ops", "--unit", "db", "--org", "Ex").code == 0
    )
    alice, zoe = load(bare.folder / "client.cert"), load(bare.folder / "Zoë B.cert")
    assert alice.subject.rfc4514_string() == "CN=alice,O=Example Inc"
    assert zoe.subject.rfc4514_string() == "CN=Zoë B,OU=db,OU=ops,O=Ex"
    assert alternatives(zoe) == [x509.UniformResourceIdentifier("jobby:client:Zo%C3%AB%20B")]
    for client in (alice, zoe):
        assert purposes(client) == [ExtendedKeyUsageOID.CLIENT_AUTH]
        assert usage(client).digital_signature
        client.verify_directly_issued_by(load(bare.folder / "ca.crt"))
    assert alice.serial_number != zoe.serial_number


def test_the_profile_of_all_leaves(bare: Cli) -> None:
    """Server and clients: P-256, SHA-256, and critically no CA."""
    assert bare("certs", "init").code == 0
    assert bare("certs", "client", "bob").code == 0
    for name in ("server.cert", "client.cert", "bob.cert"):
        leaf = load(bare.folder / name)
        key = leaf.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert isinstance(key.curve, ec.SECP256R1)
        assert isinstance(leaf.signature_hash_algorithm, hashes.SHA256)
        basic = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (basic.critical, basic.value.ca) == (True, False)


def test_days_count_from_now_and_start_a_minute_ago(bare: Cli) -> None:
    """--days is the end; the start is a little back, for clocks that are behind."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert bare("certs", "init", "--days", "30").code == 0
    after = datetime.now(UTC)
    for name in ("server.cert", "client.cert"):
        certificate = load(bare.folder / name)
        assert before <= certificate.not_valid_after_utc - timedelta(days=30) <= after
        assert before <= certificate.not_valid_before_utc + timedelta(minutes=1) <= after


def test_no_expiry_is_what_rfc_5280_calls_so(bare: Cli) -> None:
    """--no-expiry: 9999-12-31, the CA too, and the command accepts it."""
    assert bare("certs", "init", "--no-expiry").code == 0
    for name in ("ca.crt", "server.cert", "client.cert"):
        end = load(bare.folder / name).not_valid_after_utc
        assert end == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    files = [bare.folder / name for name in ("ca.cert", "client.cert", "client.key")]
    assert Credentials.from_files(*files).check().not_after.year == 9999
