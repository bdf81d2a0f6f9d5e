"""Owns HOST:PORT: reads it, writes it, and finds out what it stands for."""

import errno
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Self

from jobby_server.errors import AddressInUseError, ConfigError

_FORM = re.compile(r"(?:\[(?P<v6>[^\]\s]+)\]|(?P<name>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})")

_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.

    Attributes:
        host: a name or an IP address, without brackets.
        port: 0 stands for a free one.
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
            raise ValueError("it is not HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051")
        port = int(match["port"])
        if port > 65535:
            raise ValueError(f"there is no port {port}; the highest is 65535")
        if match["v6"]:
            try:
                ipaddress.IPv6Address(match["v6"])
            except ValueError:
                raise ValueError(f"{match['v6']} in brackets is not an IPv6 address") from None
        return cls(match["v6"] or match["name"], port)

    def is_loopback(self) -> bool:
        """Returns whether all it stands for is reachable from this machine only.

        Raises:
            ConfigError: it stands for nothing.
        """
        return all(ipaddress.ip_address(ip).is_loopback for _, ip in self._resolve())

    def try_out(self) -> None:
        """Binds the address and lets it go again.

        A name may stand for several; without those that this machine doesn't have, gRPC
        listens on the others. On one without IPv6, `localhost` is often ::1 all the same.

        Raises:
            AddressInUseError: somebody else listens there.
            ConfigError: it cannot be listened on.
        """
        absent, bound = None, False
        for family, ip in self._resolve():
            try:
                with socket.socket(family, socket.SOCK_STREAM) as trial:
                    # As gRPC does: an earlier server's connections may still be closing (tcp(7)).
                    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    trial.bind((ip, self.port))
                bound = True
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise self._unusable(error) from error
                absent = error
        if absent is not None and not bound:
            raise self._unusable(absent) from absent

    def _resolve(self) -> list[tuple[socket.AddressFamily, str]]:
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"cannot listen on {self}: {self.host} is no address, and no name resolves to it "
                f"({error}); choose another --listen"
            ) from error
        return [(family, str(target[0])) for family, _, _, _, target in found]

    def _unusable(self, error: OSError) -> ConfigError | AddressInUseError:
        if error.errno == errno.EADDRINUSE:
            return AddressInUseError(
                f"cannot listen on {self}: the address is in use; "
                "stop the program that listens there, or choose another --listen"
            )
        cause = {
            **dict.fromkeys(_ABSENT, "this machine has no such address"),
            errno.EACCES: "this user may not use a port that low",
        }.get(error.errno or 0, error.strerror or str(error))
        return ConfigError(f"cannot listen on {self}: {cause}; choose another --listen")
