"""Owns what runs a server in namespaces of its own, where a fault touches nobody else."""

import subprocess
from pathlib import Path
from typing import Final

_UNSHARE: Final = ("unshare", "--map-root-user", "--mount")


class NotHereError(Exception):
    """A fault cannot be injected on this machine; the text says why."""


def in_namespaces(script: str, state: Path) -> tuple[str, ...]:
    """What runs a server where `script` may mount, and set its user's limits; there, $0 is `state`.

    Raises:
        NotHereError: this machine lets us make none (Ubuntu's AppArmor, for one).
    """
    refused = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, check=False)
    if refused.returncode != 0:
        raise NotHereError(f"this machine lets us make no namespace: {refused.stderr.strip()}")
    return (*_UNSHARE, "sh", "-ec", script, str(state))
