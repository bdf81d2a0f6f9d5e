"""Owns RefusedError: the exception that ends a call with a status the client may read."""

import grpc


class RefusedError(Exception):
    """Ends a call. Its text goes to the client as it is.

    Attributes:
        code: the gRPC status.
        text: why, and what to do about it.
    """

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"{self.code.name}: {self.text}"
