from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobby_cli.quantities import seconds, size, some_seconds


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1", 1),
        ("4096", 4096),
        ("4096B", 4096),
        ("64K", 65_536),
        ("64k", 65_536),
        ("64KiB", 65_536),
        ("64KB", 64_000),
        ("64kB", 64_000),
        ("10M", 10 << 20),
        ("1.5G", 3 << 29),
        ("0.5K", 512),
        ("1 GiB", 1 << 30),
        ("2T", 2 << 40),
        (" 7 ", 7),
    ],
)
def test_sizes(text: str, found: int) -> None:
    """K and KiB are 1024, KB is 1000, as in dd and du; in either case, with fractions."""
    assert size(text) == found


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "K", "1E", "1e3", "1,5G", "1.G", "٣", "1KK", "1Bi", "0.1", "1\n2", "nan"],
)
def test_what_is_no_size(text: str) -> None:
    """Anything else is told, never taken for a number that nobody meant."""
    with pytest.raises(ValueError, match=r"is not a size|less than a byte"):
        size(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", 0),
        ("2", 2),
        ("0.5", 0.5),
        ("90s", 90),
        ("500ms", 0.5),
        ("10m", 600),
        ("2h", 7200),
        ("1d", 86_400),
        ("1h30m", 5400),
        ("1.5h", 5400),
    ],
)
def test_durations(text: str, found: float) -> None:
    """A bare number is seconds; units add up."""
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["", "s", "-1s", "1w", "1M", "1H", "1h 30", "1h30", "inf", "nan"])
def test_what_is_no_duration(text: str) -> None:
    """Months are no minutes, and nothing is guessed."""
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(text)


def test_no_time_is_no_limit_to_be_given() -> None:
    """0 as a job's limit would be none at all, in the contract."""
    for text in ("0", "0s", "0h0m"):
        with pytest.raises(ValueError, match="no time at all"):
            some_seconds(text)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing that can be typed breaks it."""
    for read in (size, seconds):
        with suppress(ValueError):
            assert read(text) >= 0
