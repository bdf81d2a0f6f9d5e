"""Over a bad network, and with the server killed beside, an output is the output."""

from faults.conftest import Inject


def test_cut_connections(inject: Inject) -> None:
    """Reset after random numbers of bytes, and the server killed beside: every byte, once."""
    inject("network-cut")


def test_a_stalled_network(inject: Inject) -> None:
    """Both sides find a dead peer in time; when the network is back, every byte arrives, once."""
    inject("network-stalled")


def test_slow_and_half_closed_connections(inject: Inject) -> None:
    """Delays and connections that close in one direction cost no byte and no exit code."""
    inject("network-half-closed")
