"""Owns HOST:PORT: reads it and writes it."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

_FORM = re.compile(r"(?:\[(?P<v6>[^\]\s]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is.

    Attributes:
        host: a name or an IP address, without brackets; names in lower case.
        port: 1 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads HOST:PORT, an IPv6 address in brackets.

        Raises:
            ValueError: it is neither; the text says what is wrong.
        """
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError("it is not HOST:PORT, such as localhost:50051 or [::1]:50051")
        port = int(match["port"])
        if not 0 < port < 65536:
            raise ValueError(f"there is no port {port}; a port is 1 to 65535")
        if match["v6"]:
            try:
                # One spelling for one address: jobs are remembered by it.
                return cls(str(ipaddress.IPv6Address(match["v6"])), port)
            except ValueError:
                raise ValueError(f"{match['v6']} in brackets is not an IPv6 address") from None
        return cls(match["name"].lower(), port)
