"""Version 1 of the contract, `jobby.v1` on the wire.

Nothing is imported here: importing grpc reads parts of the environment once
and for all, so the program that uses this package decides when that happens.
"""
