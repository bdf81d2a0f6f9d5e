"""Owns what a fault is given: what is installed, who is who, chance, a size; ends all of it."""

import random
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from faults.agent import Agent
from faults.host import Host
from harness.environments import Installed
from support.certificates import CLIENT, SERVER, Authority, Credentials, common_name, from_now
from support.gate import Gate
from support.proxy import Proxy
from support.user import User

_T = TypeVar("_T")


class Scene:
    """One injection of a fault.

    Attributes:
        installed: the wheels.
        folder: an empty folder of its own.
        chance: what the random moments are drawn from.
    """

    def __init__(
        self,
        installed: Installed,
        authority: Authority,
        folder: Path,
        *,
        chance: random.Random,
        full_size: bool,
    ) -> None:
        self.installed = installed
        self.folder = folder
        self.chance = chance
        self._authority = authority
        self._full_size = full_size
        self._made = 0
        self._stack = ExitStack()

    def size(self, small: _T, full: _T) -> _T:
        """A size: among the tests, and in the command that is for it."""
        return full if self._full_size else small

    def moment(self, most_seconds: float) -> None:
        """Let a random time pass: that is when the fault comes. Nothing is waited for by this."""
        threading.Event().wait(self.chance.uniform(0, most_seconds))

    def path(self, name: str) -> Path:
        """A path in the folder that nobody has."""
        self._made += 1
        return self.folder / f"{self._made}-{name}"

    def host(
        self,
        *options: str,
        state: Path | None = None,
        wrapper: Sequence[str | Path] = (),
        env: Mapping[str, str] | None = None,
    ) -> Host:
        """A state folder and, once it is told to serve, its server."""
        return self._stack.enter_context(
            Host(
                self.installed.server.bin("jobby-server"),
                self._identity("server"),
                self.path("host"),
                *options,
                state=state,
                wrapper=wrapper,
                env=env,
            )
        )

    def agent(self, address: str, name: str = "alice") -> Agent:
        """Somebody with the installed client."""
        python, identity = self.installed.client.python, self._identity(name)
        return self._stack.enter_context(Agent(python, self.path(name), identity, address))

    def user(self, address: str, name: str = "alice") -> User:
        """Somebody with the installed command."""
        command, identity = self.installed.client.bin("jobby"), self._identity(name)
        return User(command, self.path(name), identity, address)

    def _identity(self, name: str) -> Credentials:
        # Valid since long: the clock may jump.
        since, server = from_now(days=-1), name == "server"
        purpose = SERVER if server else CLIENT
        return self._authority.leaf(
            common_name(name), purposes=[purpose], local=server, not_before=since
        )

    def gate(self) -> Gate:
        """Something that holds jobs back."""
        return self._stack.enter_context(Gate(self.path("gate")))

    def proxy(self, address: str, cuts: Sequence[int] = ()) -> Proxy:
        """A bad network in front of a server."""
        return self._stack.enter_context(Proxy(address, cuts))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
