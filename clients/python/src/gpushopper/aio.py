"""The client for asyncio: the same as `gpushopper.Client`, with `await` and `async for`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc

from gpushopper import v1
from gpushopper.client import _LONG_POLL, Page
from gpushopper.connection import Backoff, Metadata, Tries, address, copied, repeatable, with_request_id
from gpushopper.errors import ApiError, SessionEnded, from_rpc_error
from gpushopper.watching import Asked, Gap, WatchItem, WatchState, one

if TYPE_CHECKING:
    from gpushopper.v1.cost_service_pb2_grpc import CostServiceAsyncStub
    from gpushopper.v1.inventory_service_pb2_grpc import InventoryServiceAsyncStub
    from gpushopper.v1.operator_service_pb2_grpc import OperatorServiceAsyncStub
    from gpushopper.v1.session_service_pb2_grpc import SessionServiceAsyncStub

__all__ = ["Client", "Watch"]

_Page = TypeVar("_Page", bound=Page)


class Client:
    """A connection to the service, for one event loop. See `gpushopper.Client`; every RPC is awaited here."""

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None = None,
        timeout: float = 60.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - it is frozen
        options: dict[str, Any] | None = None,
    ) -> None:
        """Connects when it is first used; arguments as those of `gpushopper.Client`. Make it inside the event loop."""
        where = address(url, token, ca_file, certificate, options)
        self._channel = (
            grpc.aio.secure_channel(where.target, where.credentials, where.options)
            if where.credentials
            else grpc.aio.insecure_channel(where.target, where.options)
        )
        stubs = _Stubs(self._channel, where.metadata, timeout, backoff)
        self._backoff = backoff
        self.inventory: InventoryServiceAsyncStub = _stub(v1.InventoryServiceStub, stubs)
        """What can be rented now."""
        self.sessions: SessionServiceAsyncStub = _stub(v1.SessionServiceStub, stubs)
        """Rented machines."""
        self.costs: CostServiceAsyncStub = _stub(v1.CostServiceStub, stubs)
        """What they cost."""
        self.operator: OperatorServiceAsyncStub = _stub(v1.OperatorServiceStub, stubs)
        """What an operator looks at and orders."""

    def watch_session(self, session_id: str, *, resume_token: str = "") -> Watch[v1.WatchSessionRequest]:
        """Every event of one session; see `gpushopper.Client.watch_session`."""
        return Watch(self.sessions.WatchSession, one(session_id, resume_token), self._backoff)

    def watch_sessions(
        self, filter: v1.SessionFilter | None = None, *, resume_token: str = "", ended_since: datetime | None = None
    ) -> Watch[v1.WatchSessionsRequest]:
        """Every event of all sessions that match; see `gpushopper.Client.watch_sessions`."""
        request = v1.WatchSessionsRequest(filter=filter)
        if resume_token:
            request.resume_token = resume_token
        elif ended_since:
            request.ended_since.FromDatetime(ended_since)
        return Watch(self.sessions.WatchSessions, request, self._backoff)

    async def wait_running(self, session_id: str, timeout: float | None = None) -> v1.Session:
        """Waits until a session runs; raises as `gpushopper.Client.wait_running`."""
        session = await self._wait(session_id, v1.Session.STATE_RUNNING, timeout)
        if session.state != v1.Session.STATE_RUNNING:
            raise SessionEnded(session)
        return session

    async def wait_ended(self, session_id: str, timeout: float | None = None) -> v1.Session:
        """Waits until a session has ended and every machine of it is proven gone."""
        return await self._wait(session_id, v1.Session.STATE_STOPPED, timeout)

    async def _wait(self, session_id: str, state: v1.Session.State.ValueType, timeout: float | None) -> v1.Session:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _LONG_POLL if deadline is None else max(0.0, min(_LONG_POLL, deadline - time.monotonic()))
            request = v1.WaitSessionRequest(session_id=session_id, until=[state])
            request.timeout.FromTimedelta(timedelta(seconds=left))
            try:
                answer = await self.sessions.WaitSession(request, timeout=left + _LONG_POLL)
            except ApiError as error:
                if not error.retryable or (deadline is not None and time.monotonic() >= deadline):
                    raise
                continue
            if answer.session.state in (state, v1.Session.STATE_STOPPED, v1.Session.STATE_FAILED):
                return answer.session
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"session {session_id} is still {v1.Session.State.Name(answer.session.state)}")

    async def offers(self, request: v1.ListOffersRequest | None = None) -> AsyncIterator[v1.Offer]:
        """All offers that match, over all pages of one snapshot."""
        async for page in self.pages(self.inventory.ListOffers, request or v1.ListOffersRequest(page_size=1000)):
            for offer in page.offers:
                yield offer

    async def list_sessions(self, request: v1.ListSessionsRequest | None = None) -> AsyncIterator[v1.Session]:
        """All sessions that match, newest first, over all pages."""
        async for page in self.pages(self.sessions.ListSessions, request or v1.ListSessionsRequest(page_size=1000)):
            for session in page.sessions:
                yield session

    async def session_events(self, session_id: str, *, page_size: int = 1000) -> AsyncIterator[v1.SessionEvent]:
        """What happened to a session so far, oldest first, over all pages."""
        request = v1.ListSessionEventsRequest(session_id=session_id, page_size=page_size)
        async for page in self.pages(self.sessions.ListSessionEvents, request):
            for event in page.events:
                yield event

    async def pages(self, call: Callable[[Any], Any], request: Any) -> AsyncIterator[Any]:
        """The pages of any call that has some: `client.pages(client.costs.ListLedgerEntries, request)`."""
        request, token = copied(request), request.page_token
        while True:
            request.page_token = token
            page = await call(request)
            yield page
            token = page.next_page_token
            if not token:
                return

    async def close(self) -> None:
        """Ends the connection, and with it every watch."""
        await self._channel.close()

    async def __aenter__(self) -> Client:
        """The client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes it."""
        await self.close()


class Watch(Generic[Asked], AsyncIterator[WatchItem]):
    """An asynchronous iterator that survives cuts and restarts; see `gpushopper.Watch`."""

    def __init__(self, call: Callable[[Asked], Any], request: Asked, backoff: Backoff) -> None:
        """Opens the stream when the first item is asked for."""
        self._call: Callable[[Asked], Any] = call
        self._state: WatchState[Asked] = WatchState(request, backoff)
        self._stream: Any = None
        self._closed = False

    @property
    def resume_token(self) -> str:
        """Goes on strictly after the last item that was given out. Keep it with what you made of that item."""
        return self._state.resume_token

    def __aiter__(self) -> Watch[Asked]:
        """The watch itself."""
        return self

    async def __anext__(self) -> WatchItem:
        """The next item; raises as `gpushopper.Watch`."""
        while not self._closed:
            try:
                if self._stream is None:
                    self._stream = self._call(self._state.request())
                message = await self._stream.read()
                if message is not grpc.aio.EOF:
                    item: WatchItem | None = self._state.take(message)
                    if item is not None:
                        return item
                    continue
                self.drop()
                if self._state.ended():
                    break
                wait = 0.0
            except Gap as gap:
                self.drop()
                wait = self._state.gap(gap)
            except grpc.RpcError as error:
                self.drop()
                if self._closed:
                    break
                wait = self._state.broken(from_rpc_error(error))
            except BaseException:
                self.drop()
                raise
            await asyncio.sleep(wait)
        self._closed = True
        raise StopAsyncIteration

    def drop(self) -> None:
        """Ends the present stream; the next item opens another one."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()

    def close(self) -> None:
        """Ends the watch."""
        self._closed = True
        self.drop()

    async def __aenter__(self) -> Watch[Asked]:
        """The watch itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes it."""
        self.close()


class _Unary:
    """One RPC with what happens to every call: token, request id, repetition, typed errors."""

    def __init__(self, call: Any, method: str, metadata: Metadata, timeout: float, backoff: Backoff) -> None:
        self._call, self._method, self._metadata, self._timeout, self._backoff = call, method, metadata, timeout, backoff

    async def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **more: Any) -> Any:
        request = with_request_id(request)
        tries = Tries(self._backoff, self._timeout if timeout is None else timeout, repeatable(self._method, request))
        while True:
            try:
                return await self._call(request, timeout=tries.left(), metadata=(*(metadata or ()), *self._metadata), **more)
            except grpc.RpcError as error:
                wait = tries.wait(from_rpc_error(error))
            await asyncio.sleep(wait)


class _Stream:
    """One streaming RPC with the token; the watches do the rest."""

    def __init__(self, call: Any, metadata: Metadata) -> None:
        self._call, self._metadata = call, metadata

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **more: Any) -> Any:
        return self._call(request, timeout=timeout, metadata=(*(metadata or ()), *self._metadata), **more)


class _Stubs:
    """What a stub asks of a channel."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata, timeout: float, backoff: Backoff) -> None:
        self._channel, self._metadata, self._timeout, self._backoff = channel, metadata, timeout, backoff

    def unary_unary(self, method: str, *how: Any, **more: Any) -> _Unary:
        return _Unary(self._channel.unary_unary(method, *how, **more), method, self._metadata, self._timeout, self._backoff)

    def unary_stream(self, method: str, *how: Any, **more: Any) -> _Stream:
        return _Stream(self._channel.unary_stream(method, *how, **more), self._metadata)


def _stub(made: Callable[[Any], Any], stubs: _Stubs) -> Any:
    return made(stubs)
