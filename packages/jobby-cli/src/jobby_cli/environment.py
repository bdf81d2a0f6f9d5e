"""Owns the state of the process that others rely on: gRPC's settings, descriptors, signals."""

import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType, MappingProxyType
from typing import Final

GRPC_POLICY: Final[Mapping[str, str]] = MappingProxyType(
    {
        # gRPC has no argument for the lowest TLS version. This list governs TLS 1.2 and older
        # only, and its one suite needs a pre-shared key, which gRPC never has: nothing below
        # TLS 1.3 can be negotiated.
        "GRPC_SSL_CIPHER_SUITES": "ECDHE-PSK-CHACHA20-POLY1305",
        # Nothing is forked here, and gRPC's fork handlers cost time.
        "GRPC_ENABLE_FORK_SUPPORT": "0",
    }
)


def adopt() -> None:
    """Sets what gRPC reads from the environment; it does so once, when it is imported.

    Raises:
        RuntimeError: grpc was imported before, with other settings.
    """
    if "grpc" in sys.modules and any(os.environ.get(k) != v for k, v in GRPC_POLICY.items()):
        raise RuntimeError(
            "cannot set the TLS policy: grpc was imported before jobby_cli.main ran and has read "
            "the environment already; use jobby_client from a program that imports grpc"
        )
    os.environ.update(GRPC_POLICY)
    # gRPC logs refused handshakes on stderr; the sentence that jobby writes says more.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def occupy_standard_descriptors() -> None:
    """Fills the places of closed standard descriptors.

    Otherwise the next file or socket gets number 1, and output goes into it.
    Writing to what takes the place fails, as it should: `jobby output >&-`.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is used (open(2)), and the lower ones are taken by now.
            os.open(os.devnull, os.O_RDONLY)


def end_by_signals() -> None:
    """Makes SIGTERM and SIGHUP end the process orderly, so that half-written files are removed.

    Not those that are ignored: that was meant for what the process does, too (nohup(1)).
    """
    heard = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        # Whoever closes a terminal may send it twice, and the second would cut the tidying up.
        for each in heard:
            signal.signal(each, signal.SIG_IGN)
        raise SystemExit(128 + number)

    for number in heard:
        signal.signal(number, on_signal)
