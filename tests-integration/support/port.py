"""Owns a port on loopback that stays ours while nobody listens on it."""

import socket


def held_port() -> socket.socket:
    """A socket that keeps its port from all who ask for any; whoever is told it can listen there.

    For servers that end and begin again on their port: in between, another test's server might
    be given it. It takes both of them to allow the reuse (SO_REUSEADDR in socket(7)), and the
    holder not to listen.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder
