"""Owns what the server tells of a job: its state, its exit code, the names of its outputs."""

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Where a job is in its life."""

    RUNNING = "RUNNING"
    """Its main process runs."""
    COMPLETED = "COMPLETED"
    """Its main process ended by itself, or by a signal that no stop sent."""
    STOPPED = "STOPPED"
    """It was ended by a stop."""


class Stream(Enum):
    """Which of a job's outputs."""

    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class Status:
    """Where a job stood when the server answered.

    Attributes:
        state: its state.
        exit_code: 0 to 255, and 128 + n after signal n; None unless COMPLETED.
    """

    state: State
    exit_code: int | None = None
