"""Gives the faults' tests what injects them, small."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.catalogue import FAULTS
from faults.losses import Losses
from faults.namespaces import NotHereError
from faults.scene import Scene
from harness.environments import Installed
from support.certificates import Authority

Inject = Callable[[str], None]


@pytest.fixture
def inject(installed: Installed, authority: Authority, tmp_path: Path) -> Inject:
    """Injects a fault once; nothing may be lost by it."""

    def once(name: str) -> None:
        chance = random.Random()
        losses = Losses()
        with Scene(installed, authority, tmp_path, chance=chance, full_size=False) as scene:
            try:
                FAULTS[name](scene, losses)
            except NotHereError as error:
                pytest.skip(str(error))  # what this system lacks for it; the command fails then
        assert losses.none(), "\n".join(losses.words)

    return once
