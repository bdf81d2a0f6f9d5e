"""Who a certificate names: pure on bytes."""

import contextlib
import ssl
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from server_authority import SERVER, Authority, Leaf, common_name

from jobby_server import identity
from jobby_server.identity import Authorities, IdentityError, Owner

CA = Authority.create("Jobby test CA")
KEY = ec.generate_private_key(ec.SECP256R1())
AUTHORITIES = Authorities(CA.pem)
CN = NameOID.COMMON_NAME
ORG = NameOID.ORGANIZATION_NAME
UNIT = NameOID.ORGANIZATIONAL_UNIT_NAME


def name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    """Returns a subject of single-valued parts, without the checks of a well-behaved CA."""
    return x509.Name([x509.NameAttribute(oid, text, _validate=False) for oid, text in parts])


def issued(subject: str | x509.Name) -> bytes:
    """Returns a client certificate with a subject."""
    return CA.issue(subject, key=KEY).cert_pem


def visible(text: str) -> bool:
    """Whether the documented rules accept a text."""
    return (
        bool(text)
        and text == text.strip()
        and unicodedata.is_normalized("NFC", text)
        and all(
            unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for c in text
        )
    )


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
GOOD_TEXT = TEXT.filter(visible)


@given(GOOD_TEXT)
def test_a_visible_name_is_accepted_and_is_the_owner(text: str) -> None:
    """Whatever can be told apart by eye, commas and backslashes included, is a name."""
    principal = AUTHORITIES.identify(issued(text))
    assert principal.owner.name == common_name(text).rfc4514_string()
    assert principal.groups == frozenset()


@given(TEXT.filter(lambda text: not visible(text)))
def test_a_name_that_could_be_mistaken_is_refused(text: str) -> None:
    """Controls, invisible characters, other normal forms and outer spaces name nobody."""
    with pytest.raises(IdentityError, match="the CN in the client certificate's subject"):
        AUTHORITIES.identify(issued(text))


PARTS = st.lists(st.tuples(st.sampled_from([ORG, UNIT, NameOID.TITLE]), GOOD_TEXT), max_size=3)


@given(PARTS, PARTS)
def test_two_subjects_are_one_owner_only_if_they_are_equal(
    left: list[tuple[x509.ObjectIdentifier, str]], right: list[tuple[x509.ObjectIdentifier, str]]
) -> None:
    """No choice of values makes the text of one subject that of another; order and case count."""
    owners = [
        AUTHORITIES.identify(issued(name((CN, "alice"), *parts))).owner for parts in (left, right)
    ]
    assert (owners[0] == owners[1]) == (left == right)


@given(PARTS)
def test_groups_are_the_o_and_ou_values(parts: list[tuple[x509.ObjectIdentifier, str]]) -> None:
    """Whoever signs the certificate says which groups; nothing else in the subject does."""
    principal = AUTHORITIES.identify(issued(name((CN, "alice"), *parts)))
    assert principal.groups == {text for oid, text in parts if oid in (ORG, UNIT)}


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_name_nobody(junk: bytes) -> None:
    """Whatever arrives, the answer is a refusal and never another exception."""
    with pytest.raises(IdentityError):
        AUTHORITIES.identify(junk)


def test_a_certificate_with_one_bit_changed_names_nobody_else() -> None:
    """Whichever bit it is: refused, or, where the bit had no meaning, the same owner as before."""
    pem = issued("alice")
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    expected = AUTHORITIES.identify(pem)
    authorities = Authorities(CA.pem)
    for bit in range(len(der) * 8):
        damaged = bytearray(der)
        damaged[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(IdentityError):
            found = authorities.identify(ssl.DER_cert_to_PEM_cert(bytes(damaged)).encode())
            assert found == expected


MULTI = x509.Name(
    [
        x509.RelativeDistinguishedName(
            [x509.NameAttribute(CN, "alice"), x509.NameAttribute(UNIT, "admins")]
        )
    ]
)
UNKNOWN_OID = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
SUBJECTS = {
    "an empty one": (x509.Name([]), "empty"),
    "none but an O": (name((ORG, "team")), "exactly one common name"),
    "two CNs": (name((CN, "alice"), (CN, "root")), "exactly one common name"),
    "a multi-valued part": (MULTI, "multi-valued"),
    "an unknown type": (name((CN, "alice"), (UNKNOWN_OID, "x")), "type this server doesn't know"),
    "a NUL": (name((CN, "alice\0evil")), r"U\+0000"),
    "an ESC": (name((CN, "alice\x1b[2J")), r"U\+001B"),
    "a newline": (name((CN, "ali\nce")), r"U\+000A"),
    "a bidi override": (name((CN, "alice\u202e")), r"U\+202E"),
    "a zero-width space": (name((CN, "al\u200bice")), r"U\+200B"),
    "a soft hyphen": (name((CN, "al\u00adice")), r"U\+00AD"),
    "a combining form": (name((CN, "Ame\u0301lie")), "normal form"),
    "a leading space": (name((CN, " alice")), "space"),
    "a trailing space": (name((CN, "alice ")), "space"),
    "an invisible group": (name((CN, "alice"), (ORG, "\u200b")), r"the O .*U\+200B"),
}


@pytest.mark.parametrize("case", SUBJECTS)
def test_an_ambiguous_subject_is_refused_with_its_reason(case: str) -> None:
    """Each rule of a name is enforced, and the client is told which one its certificate breaks."""
    subject, reason = SUBJECTS[case]
    with pytest.raises(IdentityError, match=reason):
        AUTHORITIES.identify(issued(subject))


def test_the_way_a_text_is_encoded_does_not_matter() -> None:
    """PrintableString and UTF8String with the same text are the same owner: jobs survive."""
    printable, utf8 = (
        x509.Name([x509.NameAttribute(CN, "alice", _type=kind)])
        for kind in (_ASN1Type.PrintableString, _ASN1Type.UTF8String)
    )
    assert printable.public_bytes() != utf8.public_bytes()
    assert AUTHORITIES.identify(issued(printable)).owner == AUTHORITIES.identify(issued(utf8)).owner


def test_case_and_order_matter() -> None:
    """Nothing is folded: alice and Alice are two, and so are two orders of the same parts."""
    owners = {
        AUTHORITIES.identify(issued(subject)).owner
        for subject in (
            name((CN, "alice"), (ORG, "a")),
            name((CN, "Alice"), (ORG, "a")),
            name((ORG, "a"), (CN, "alice")),
        )
    }
    assert len(owners) == 3


def profile(case: str) -> tuple[Leaf, str]:
    """Returns a certificate that gRPC lets in, at least in part, and why it is refused here."""
    usage = x509.KeyUsage(False, False, True, False, False, False, False, False, False)
    match case:
        case "no usages":
            return CA.issue("alice", bare=True), "digitalSignature"
        case "no digitalSignature":
            return CA.issue("alice", usage=usage), "digitalSignature"
        case "for servers only":
            return CA.issue("alice", purposes=[SERVER]), "clientAuth"
        case "RSA with 1024 bits":
            return CA.issue("alice", key=rsa.generate_private_key(65537, 1024)), "1024 bits"
        case "a CA":
            return CA.issue("alice", is_ca=True), "a CA's own"
        case "the CA itself":
            return Leaf(CA.pem, b""), "a CA's own"
        case "another CA":
            return Authority.create("Other").issue("alice"), "not signed by a CA"
        case "another CA of the same name":
            return Authority.create("Jobby test CA").issue("alice"), "not signed by a CA"
        case _:
            between = Authority.create("Between", issuer=CA)
            return between.issue("alice"), "intermediate CA has to be in that bundle"


@pytest.mark.parametrize(
    "case",
    [
        "no usages",
        "no digitalSignature",
        "for servers only",
        "RSA with 1024 bits",
        "a CA",
        "the CA itself",
        "another CA",
        "another CA of the same name",
        "an intermediate",
    ],
)
def test_a_certificate_that_is_not_for_clients_is_refused(case: str) -> None:
    """What gRPC would accept, Jobby looks at again."""
    leaf, reason = profile(case)
    with pytest.raises(IdentityError, match=reason):
        AUTHORITIES.identify(leaf.cert_pem)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
)
def test_the_issuer_is_found_for_each_type_of_ca_key(key: ec.EllipticCurvePrivateKey) -> None:
    """The CA that verifies the signature is the one that counts, among several."""
    ca = Authority.create("By another key", key=key)
    owner = Authorities(CA.pem + ca.pem).identify(ca.issue("alice").cert_pem).owner
    assert owner == Owner("CN=alice", identity.spki_sha256(ca.cert))


def test_a_ca_that_is_renewed_with_its_key_keeps_its_owners() -> None:
    """The label is the CA's key: an old and a new certificate of it may lie in one bundle."""
    alice = issued("alice")
    soon = datetime.now(UTC) + timedelta(days=1)
    old = Authority.create("Jobby test CA", key=CA.key, not_after=soon)
    both = Authorities(old.pem + CA.pem).identify(alice)
    assert both == AUTHORITIES.identify(alice)
    assert Authorities(old.pem).identify(alice).not_after < soon


def test_a_ca_certificate_ahead_of_its_date_shuts_nobody_out() -> None:
    """It may be staged: until it begins, the one before it counts, and then it takes over."""
    alice = issued("alice")
    later = datetime.now(UTC) + timedelta(days=1)
    soon = datetime.now(UTC) + timedelta(days=2)
    old = Authority.create("Jobby test CA", key=CA.key, not_after=soon)
    staged = Authority.create("Jobby test CA", key=CA.key, not_before=later)
    for bundle in (old.pem + staged.pem, staged.pem + old.pem):
        found = Authorities(bundle).identify(alice)
        found.check_validity(datetime.now(UTC))
        before = Authorities(old.pem).identify(alice)
        after = Authorities(staged.pem).identify(alice)
        assert found.owner == before.owner == after.owner
        assert (found.not_before, found.not_after) == (before.not_before, after.not_after)


def test_between_two_certificates_of_a_ca_nobody_is_let_in() -> None:
    """One that begins only after the one before it has ended does not take over."""
    alice = issued("alice")
    soon, later = (datetime.now(UTC) + timedelta(days=days) for days in (1, 2))
    old = Authority.create("Jobby test CA", key=CA.key, not_after=soon)
    staged = Authority.create("Jobby test CA", key=CA.key, not_before=later)
    found = Authorities(old.pem + staged.pem).identify(alice)
    assert found == Authorities(old.pem).identify(alice)


def test_an_intermediate_in_the_bundle_is_a_ca_of_its_own() -> None:
    """Whoever issues through an intermediate names it to the server, and it is the label."""
    between = Authority.create("Between", issuer=CA)
    owner = Authorities(CA.pem + between.pem).identify(between.issue("alice").cert_pem).owner
    assert owner.authority == identity.spki_sha256(between.cert)


def test_validity_is_the_overlap_of_certificate_and_ca() -> None:
    """Both ends are inclusive (RFC 5280, 4.1.2.5); outside of them the answer is a refusal."""
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    end = datetime(2031, 1, 1, tzinfo=UTC)
    leaf = CA.issue("alice", not_before=begin, not_after=end)
    principal = AUTHORITIES.identify(leaf.cert_pem)
    principal.check_validity(begin)
    principal.check_validity(end)
    with pytest.raises(IdentityError, match="valid only from 2030"):
        principal.check_validity(begin - timedelta(microseconds=1))
    with pytest.raises(IdentityError, match="expired at 2031"):
        principal.check_validity(end + timedelta(microseconds=1))


def test_whose_dates_are_wrong_is_told() -> None:
    """A new client certificate would be no way out where it is the CA's that has ended."""
    now = datetime.now(UTC)
    ended, begins = now - timedelta(days=1), now + timedelta(days=1)
    since = ended - timedelta(days=1)
    old = Authority.create("Jobby test CA", key=CA.key, not_before=since, not_after=ended)
    new = Authority.create("Jobby test CA", key=CA.key, not_before=begins)
    for ca, said in ((old, "expired at .*bundle"), (new, "is valid only from")):
        with pytest.raises(IdentityError, match=f"the certificate of the CA .* {said}"):
            Authorities(ca.pem).identify(issued("alice")).check_validity(now)


def test_the_cache_is_bounded_and_holds_no_refusal() -> None:
    """A client cannot fill the memory with certificates, and a refusal is decided each time."""
    authorities = Authorities(CA.pem)
    pem = issued("alice")
    assert authorities.identify(pem) is authorities.identify(pem)
    for junk in range(3):
        with pytest.raises(IdentityError):
            authorities.identify(b"%d" % junk)
    info = authorities._cached.cache_info()
    assert (info.currsize, info.maxsize) == (1, identity.CACHED_CERTIFICATES)


def test_an_empty_bundle_is_no_bundle() -> None:
    """Without a CA nobody could ever connect: that is an error at once, not later."""
    with pytest.raises(ValueError):
        Authorities(b"")
