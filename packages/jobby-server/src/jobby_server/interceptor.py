"""Owns the gate before every call: who calls, how long it may last, and what errors may say.

Nothing reaches a servicer, and no request is even parsed, before its client is known.
"""

import asyncio
import inspect
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio

from jobby_core import JobbyError
from jobby_server import wire
from jobby_server.identity import Authorities, IdentityError, Principal, utc_now
from jobby_server.journal import JournalError
from jobby_server.lifetime import Lifetimes
from jobby_server.refusal import RefusedError

_log = logging.getLogger(__name__)

# A status text travels in a header, and clients refuse headers of more than 8 KiB.
_MAX_TEXT_BYTES = 3000

_CODE = grpc.StatusCode

_T = TypeVar("_T")
# Any: a gate for every method there is, whatever its messages.
# In quotes: grpc's classes are generic to the type checker only.
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Parse = Callable[[bytes], Any] | None

_caller: ContextVar[Principal] = ContextVar("caller")


def caller() -> Principal:
    """Returns who makes the call that is being served.

    Raises:
        LookupError: no call is being served; so nothing is ever served to nobody.
    """
    return _caller.get()


class Gate(grpc.aio.ServerInterceptor):
    """Wraps the handler of every method, known or not, whatever its cardinality.

    Args:
        authorities: the CAs whose clients are served.
        lifetimes: ends streams.
    """

    def __init__(self, authorities: Authorities, lifetimes: Lifetimes) -> None:
        self._authorities = authorities
        self._lifetimes = lifetimes
        self._wrapped: dict[str, _Handler] = {}  # by method

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Finds a method's handler and wraps it; see `grpc.aio.ServerInterceptor`."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            wrapped = self._wrap(handler or _UNKNOWN, method)
            if handler is not None:  # of those that aren't there, clients can make up any number
                self._wrapped[method] = wrapped
        return wrapped

    def _wrap(self, handler: _Handler, method: str) -> _Handler:
        answer = (
            self._streaming(handler, method)
            if handler.response_streaming
            else self._single(handler, method)
        )
        # No deserializer: gRPC would parse the request before anybody looked at the client.
        return _MAKERS[handler.request_streaming, handler.response_streaming](
            answer, None, handler.response_serializer
        )

    def _single(self, handler: _Handler, method: str) -> Callable[..., Awaitable[Any]]:
        behaviour: Any = handler.stream_unary if handler.request_streaming else handler.unary_unary

        async def answer(raw: Any, context: _Context) -> Any:
            async def body(principal: Principal) -> Any:
                del principal
                request = _parsed(handler, raw)
                return await behaviour(request, context)

            return await self._serve(method, context, body)

        return answer

    def _streaming(self, handler: _Handler, method: str) -> Callable[..., Awaitable[None]]:
        behaviour: Any = (
            handler.stream_stream if handler.request_streaming else handler.unary_stream
        )

        async def answer(raw: Any, context: _Context) -> None:
            async def body(principal: Principal) -> None:
                async with self._lifetimes.hold(principal):
                    answers = behaviour(_parsed(handler, raw), context)
                    if not inspect.isasyncgen(answers):
                        await answers  # it writes to the context itself
                        return
                    async with aclosing(answers):
                        async for message in answers:
                            await context.write(message)

            await self._serve(method, context, body)

        return answer

    async def _serve(
        self, method: str, context: _Context, body: Callable[[Principal], Awaitable[_T]]
    ) -> _T:
        """Runs `body` for the caller; whatever it raises becomes a status."""
        try:
            try:
                principal = self._authenticate(context)
                _caller.set(principal)  # this call's task has a context of its own
                return await body(principal)
            except grpc.aio.BaseError:
                raise  # an abort, or the transport's own
            except Exception as error:  # noqa: BLE001 - the last one: its text must not leak
                refusal = _refusal(error, method, context)
            await context.abort(refusal.code, _shortened(refusal.text))
            raise AssertionError("abort always raises")
        except grpc.aio.InternalError:
            # The client went away during a write or an abort. That is how streams end every
            # day; gRPC would log it as an error, with a traceback.
            raise asyncio.CancelledError from None

    def _authenticate(self, context: _Context) -> Principal:
        auth = context.auth_context()
        if list(auth.get("ssl_tls_version", ())) != [b"TLSv1.3"]:
            raise IdentityError("this server speaks TLS 1.3 only")
        certificates = list(auth.get("x509_pem_cert", ()))
        if len(certificates) != 1:
            raise IdentityError("this server needs a client certificate")
        principal = self._authorities.identify(certificates[0])
        principal.check_validity(utc_now())
        return principal


def _shortened(text: str) -> str:
    """Returns as much of a status text as fits into its header: its beginning and its end, which
    has the way out.
    """
    # A lone surrogate (of a path that is not UTF-8) cannot be sent: the call would never end.
    text = text.encode(errors="backslashreplace").decode()
    # Their number first: a command may have MiBs.
    if len(text) <= _MAX_TEXT_BYTES and sum(map(_header_bytes, text)) <= _MAX_TEXT_BYTES:
        return text
    return f"{_fitting(text)}…{_fitting(text[:-_MAX_TEXT_BYTES:-1])[::-1]}"


def _fitting(text: str) -> str:
    left = _MAX_TEXT_BYTES // 2
    for index, each in enumerate(text):
        left -= _header_bytes(each)
        if left < 0:
            return text[:index]
    return text


def _header_bytes(character: str) -> int:
    """Returns what a character takes: what isn't printable ASCII, three bytes for one
    (percent-encoding of grpc-message, in gRPC over HTTP2).
    """
    plain = " " <= character <= "~" and character != "%"
    return 1 if plain else 3 * len(character.encode())


def _refusal(error: Exception, method: str, context: _Context) -> RefusedError:
    """Returns what the client is told of the exception being handled."""
    match error:
        case RefusedError():
            return error
        case IdentityError():
            _log.info("refused a call of %s from %s: %s", method, context.peer(), error)
            return RefusedError(grpc.StatusCode.UNAUTHENTICATED, str(error))
        case JournalError():
            _log.error("a call of %s failed for the journal: %s", method, error)
            code = _CODE.RESOURCE_EXHAUSTED if error.full else _CODE.INTERNAL
            return RefusedError(code, f"the server's journal failed: {error}; try again later")
        case JobbyError():
            return wire.refusal(error) or _incident(method)
        case _:
            return _incident(method)


def _incident(method: str) -> RefusedError:
    """Logs the exception being handled; returns what the client may know of it."""
    incident = uuid.uuid4().hex[:12]
    _log.exception("incident %s in %s", incident, method)
    return RefusedError(
        grpc.StatusCode.INTERNAL,
        f"internal error; the server's log has the details under incident {incident}",
    )


def _parsed(handler: _Handler, raw: Any) -> Any:
    """Parses one request, or returns an iterator that parses each of a stream of them."""
    if handler.request_streaming:
        return _parse_each(handler.request_deserializer, raw)
    return _parse(handler.request_deserializer, raw)


def _parse(parse: _Parse, raw: bytes) -> Any:
    try:
        return raw if parse is None else parse(raw)
    except Exception as error:  # protobuf's DecodeError has no common base over its versions
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "request: it cannot be parsed; are client and server of the same contract?",
        ) from error


async def _parse_each(parse: _Parse, stream: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for raw in stream:
        yield _parse(parse, raw)


async def _no_such_method(requests: AsyncIterator[bytes], context: _Context) -> None:
    del requests, context
    raise RefusedError(grpc.StatusCode.UNIMPLEMENTED, "no such method; see the contract jobby.v1")


# Streaming both ways, so that it answers before it has read anything, whatever was meant.
_UNKNOWN: _Handler = grpc.stream_stream_rpc_method_handler(_no_such_method)

_MAKERS: dict[tuple[bool, bool], Callable[..., _Handler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
