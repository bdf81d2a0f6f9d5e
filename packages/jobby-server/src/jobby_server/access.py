"""Owns who may do what: a pure decision on who calls, what they want, and whose job it is."""

import enum

from jobby_server.identity import Owner, Principal


class Action(enum.Enum):
    """What can be done to a job that exists."""

    STOP = "stop"
    STATUS = "status"
    OUTPUT = "output"


def allowed(principal: Principal, action: Action, owner: Owner) -> bool:
    """Returns whether `principal` may do `action` to a job of `owner`: only its owner may.

    Starting a job is not asked here: every authenticated client may.
    """
    del action  # the same answer for each of them, as long as there are no roles
    return principal.owner == owner
