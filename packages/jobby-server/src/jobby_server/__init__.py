"""The Jobby server: runs commands for authenticated clients over gRPC and mutual TLS 1.3.

Nothing is imported here: importing grpc reads parts of the environment once
and for all, and `jobby_server.environment` has to come first.
"""
