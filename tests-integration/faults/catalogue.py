"""Owns the list of faults, by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from faults import kills, unruly
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
