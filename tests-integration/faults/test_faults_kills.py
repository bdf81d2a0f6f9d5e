"""Whoever is killed, nothing is lost; who is frozen costs nobody else anything."""

from faults.conftest import Inject


def test_a_killed_server(inject: Inject) -> None:
    """Among starts, in the middle of streams, as jobs end: every byte once, every exit code, one
    job a start, no orphan, and the streams go on by themselves."""
    inject("server-killed")


def test_a_killed_launcher(inject: Inject) -> None:
    """Its job is LOST, nothing of it runs, its output until then is whole, no exit code is made
    up; whether the server was there or not."""
    inject("launcher-killed")


def test_a_killed_client(inject: Inject) -> None:
    """Its jobs go on, and the server has given back all that its streams held."""
    inject("client-killed")


def test_a_frozen_client(inject: Inject) -> None:
    """It costs little memory and no other reader a byte; once it goes on, it has every byte."""
    inject("client-frozen")
