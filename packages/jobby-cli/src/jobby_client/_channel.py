"""Owns the connection's settings: signs of life, attempts to connect, sizes."""

from typing import Final

import grpc

from jobby_client.address import Address
from jobby_client.credentials import Credentials

_CONNECT_MS = 8_000
# grpc/impl/channel_arg_names.h
_ARGUMENTS: Final = (
    # A dead server is found within 5 + 3 seconds. Not more often than servers allow, and Jobby's
    # allows a ping a second: too many make it close the connection.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # Without this one a silent server is kept for a minute longer.
    ("grpc.http2.ping_timeout_ms", 3_000),
    # 0: a quiet job's stream is asked after for as long as it lasts.
    ("grpc.http2.max_pings_without_data", 0),
    # In spite of its name: how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A message of output carries 1 MiB at most; nothing else of the contract comes near.
    ("grpc.max_receive_message_length", 4 << 20),
    # A proxy in the environment is there for the web, and localhost is never behind one.
    ("grpc.enable_http_proxy", 0),
)


def open_to(address: Address, credentials: Credentials) -> grpc.Channel:
    """Returns a channel, which connects at the first call."""
    return grpc.secure_channel(
        # The scheme is given, or a host called "unix" would be a file.
        f"dns:///{address}",
        grpc.ssl_channel_credentials(credentials.ca_pem, credentials.key_pem, credentials.cert_pem),
        options=_ARGUMENTS,
    )
