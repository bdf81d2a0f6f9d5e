"""Owns which names a certificate may carry: what a server will take for an identity. Pure."""

import ipaddress
import re
import unicodedata

# RFC 5280, appendix A.1: ub-common-name, ub-organization-name, ub-organizational-unit-name. The RFC
# counts characters, but cryptography counts the bytes of a common name.
_MOST_BYTES = 64
# Control, format, surrogate, private, unassigned, line and paragraph separators: two names that
# differ in these could look the same.
_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
# Files that `certs init` makes, which a client of that name would replace.
_TAKEN = frozenset({"ca", "server"})


def check_name(text: str) -> None:
    """Checks one part of a subject: a CN, O or OU.

    Raises:
        ValueError: a server would refuse it; the text says why.
    """
    if not text:
        raise ValueError("it is empty")
    if text != text.strip():
        raise ValueError("it begins or ends with a space")
    unseen = next((c for c in text if unicodedata.category(c) in _UNSEEN_CATEGORIES), None)
    if unseen is not None:
        raise ValueError(f"it contains an invisible character (U+{ord(unseen):04X})")
    if not unicodedata.is_normalized("NFC", text):
        raise ValueError("it is not in Unicode normal form C; type it anew, or normalize it")
    if (length := len(text.encode())) > _MOST_BYTES:
        raise ValueError(f"it has {length} bytes in UTF-8; {_MOST_BYTES} are allowed")


def check_client_name(text: str) -> None:
    """Checks a client's CN, which names its files too.

    Raises:
        ValueError: it cannot be used; the text says why.
    """
    check_name(text)
    if "/" in text or text.startswith((".", "-")):
        raise ValueError("its files could not be called so: leave out /, and . or - at the start")
    if text in _TAKEN:
        raise ValueError(f"its files would be those of the {text}; choose another name")


def check_host(text: str) -> None:
    """Checks a name or IP address by which clients call the server.

    Raises:
        ValueError: it is neither.
    """
    try:
        ipaddress.ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        # No top-level domain is a number (RFC 1123, section 2.1): it is an address, mistyped.
        wrong = labels[-1].isdigit() or not all(_LABEL.fullmatch(label) for label in labels)
        if len(text) > 253 or wrong:
            raise ValueError(
                "it is neither an IP address nor a host name (RFC 1123; others in punycode)"
            ) from None
