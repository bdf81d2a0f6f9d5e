"""Owns the list of faults, by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from faults import clocks, crowds, disks, kills, limits, networks, records, unruly
from faults.losses import Losses
from faults.scene import Scene

Fault = Callable[[Scene, Losses], None]
"""Injects itself once, and counts what is lost by it; an exception is a loss, too."""

_ALL: tuple[Fault, ...] = (
    kills.server_killed,
    kills.launcher_killed,
    kills.client_killed,
    kills.client_frozen,
    unruly.unruly_processes,
    unruly.unruly_output,
    disks.disk_full,
    disks.disk_read_only,
    records.database_damaged,
    records.outcome_damaged,
    limits.descriptors_used_up,
    limits.inotify_used_up,
    clocks.clock_jumps,
    networks.network_cut,
    networks.network_stalled,
    networks.network_half_closed,
    crowds.crowd,
)
FAULTS: Mapping[str, Fault] = MappingProxyType(
    {fault.__name__.replace("_", "-"): fault for fault in _ALL}
)


def inject(name: str, scene: Scene, losses: Losses) -> None:
    """Inject a fault once; whatever happens stands in `losses` afterwards."""
    try:
        with scene:
            FAULTS[name](scene, losses)
    except (AssertionError, EOFError, LookupError, OSError, RuntimeError, TimeoutError) as error:
        losses.expect(False, f"{name} goes as it should: {type(error).__name__}: {error}")
