"""An address is HOST:PORT, in one spelling."""

import pytest

from jobby_client import (
    Address,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("localhost:50051", "localhost:50051"),
        ("Jobs.Example.ORG:1", "jobs.example.org:1"),
        ("127.0.0.1:65535", "127.0.0.1:65535"),
        ("[::1]:80", "[::1]:80"),
        ("[0:0::1]:80", "[::1]:80"),
        ("unix:1", "unix:1"),
    ],
)
def test_addresses(text: str, shown: str) -> None:
    """HOST:PORT in one spelling, so that jobs are found again."""
    assert str(Address.parse(text)) == shown
    assert Address.parse(shown) == Address.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost", "localhost:", ":1", "x:0", "x:65536", "x:-1", "::1:80", "[x]:1"),
        *("a b:1", "http://x:1", "x:1/", "unix:/tmp/socket", "x:٣", "[::1%25eth0\n]:1"),
    ],
)
def test_what_is_no_address(text: str) -> None:
    """A URL, a missing port, another scheme: refused with words."""
    with pytest.raises(ValueError, match=r"HOST:PORT|no port|not an IPv6"):
        Address.parse(text)
