"""Every fault is injected by the tests, not only by the command that is for it."""

import re
from pathlib import Path

from faults.catalogue import FAULTS


def test_each_fault_has_a_test() -> None:
    """A fault that is in the list, and in no test, would be forgotten."""
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    injected = {name for text in texts for name in re.findall(r'inject\("([a-z-]+)"\)', text)}
    assert injected == set(FAULTS)
