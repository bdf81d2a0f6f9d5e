"""What time it is decides nothing."""

from faults.conftest import Inject


def test_the_clock_jumps(inject: Inject) -> None:
    """An hour back and forth: no byte and no exit code is lost, no job ends early, and each took
    the time that it took."""
    inject("clock-jumps")
