"""The client for asyncio: the same as `gpushopper.Client`, with `await` and `async for`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

import grpc

from gpushopper import v1
from gpushopper.client import _GRACE, _WAIT, Page, States, Wait
from gpushopper.connection import Backoff, Metadata, Tries, address, copied, repeatable, with_request_id
from gpushopper.errors import ApiError, SessionEnded, from_rpc_error
from gpushopper.watching import BOOKMARK, Asked, Gap, OnLost, Terms, WatchItem, WatchState

if TYPE_CHECKING:
    from gpushopper.v1.cost_service_pb2_grpc import CostServiceAsyncStub
    from gpushopper.v1.inventory_service_pb2_grpc import InventoryServiceAsyncStub
    from gpushopper.v1.operator_service_pb2_grpc import OperatorServiceAsyncStub
    from gpushopper.v1.session_service_pb2_grpc import SessionServiceAsyncStub

__all__ = ["Client", "Watch"]

_Page = TypeVar("_Page", bound=Page)
Ask: TypeAlias = Callable[[v1.WaitSessionRequest, float], Awaitable[v1.WaitSessionResponse]]


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

    def watch_session(
        self,
        session_id: str,
        *,
        resume_token: str = "",
        from_now: bool = False,
        bookmark: float = BOOKMARK,
        give_up: float | None = None,
        on_lost: OnLost | None = None,
    ) -> Watch[v1.WatchSessionRequest]:
        """Every event of one session; see `gpushopper.Client.watch_session`."""
        terms = Terms(resume_token=resume_token, from_now=from_now, bookmark=bookmark, give_up=give_up, on_lost=on_lost)
        return Watch(
            self.sessions.WatchSession, v1.WatchSessionRequest(session_id=session_id), terms, self._backoff, lambda: self._look(session_id)
        )

    def watch_sessions(
        self,
        filter: v1.SessionFilter | None = None,
        *,
        resume_token: str = "",
        from_now: bool = False,
        ended_since: datetime | None = None,
        bookmark: float = BOOKMARK,
        give_up: float | None = None,
        on_lost: OnLost | None = None,
    ) -> Watch[v1.WatchSessionsRequest]:
        """Every event of all sessions that match; see `gpushopper.Client.watch_sessions`."""
        terms = Terms(resume_token, from_now, ended_since, bookmark, give_up, on_lost)
        return Watch(self.sessions.WatchSessions, v1.WatchSessionsRequest(filter=filter), terms, self._backoff)

    async def _look(self, session_id: str) -> v1.Session:
        return (await self.sessions.GetSession(v1.GetSessionRequest(session_id=session_id))).session

    async def wait_running(self, session_id: str, timeout: float | None = _WAIT) -> v1.Session:
        """Waits until a session runs; raises as `gpushopper.Client.wait_running`."""
        session = await self._wait(session_id, (v1.Session.STATE_RUNNING, v1.Session.STATE_STOPPING), timeout)
        if session.state != v1.Session.STATE_RUNNING:
            raise SessionEnded(session)
        return session

    async def wait_ended(self, session_id: str, timeout: float | None = _WAIT) -> v1.Session:
        """Waits until a session has ended and every machine of it is proven gone."""
        return await self._wait(session_id, (v1.Session.STATE_STOPPED, v1.Session.STATE_FAILED), timeout)

    async def _wait(self, session_id: str, until: States, timeout: float | None) -> v1.Session:
        wait = Wait(session_id, until, timeout, self._backoff)
        ask: Ask = cast(_Unary, self.sessions.WaitSession).once  # the wait repeats by itself
        while True:
            try:
                answer = await ask(wait.request(), wait.left() + _GRACE)
            except ApiError as error:
                failure = error
            else:
                if wait.over(answer):
                    return answer.session
                continue
            await asyncio.sleep(wait.failed(failure))

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

    def __init__(
        self,
        call: Callable[[Asked], Any],
        request: Asked,
        terms: Terms,
        backoff: Backoff,
        look: Callable[[], Awaitable[v1.Session]] | None = None,
    ) -> None:
        """Opens the stream when the first item is asked for. `look` gets the one session, if it is one."""
        self._call: Callable[[Asked], Any] = call
        self._state: WatchState[Asked] = WatchState(request, terms, backoff)
        self._look = look
        self._stream: Any = None
        self._silent = False
        self._closed = asyncio.Event()

    @property
    def resume_token(self) -> str:
        """Goes on strictly after the last item that was given out. Keep it with what you made of that item."""
        return self._state.resume_token

    def __aiter__(self) -> Watch[Asked]:
        """The watch itself."""
        return self

    async def __anext__(self) -> WatchItem:
        """The next item; raises as `gpushopper.Watch`."""
        while not self._closed.is_set():
            failure: ApiError | Gap | None = None
            try:
                message = await self._read()
                if message is not grpc.aio.EOF:
                    item: WatchItem | None = self._state.take(message)
                    if item is not None:
                        return item
                    continue
            except Gap as gap:
                failure = gap
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            except asyncio.CancelledError:
                # That of a stream which was ended here is no order to the task that reads it.
                if _is_told_to_end() or (not self._closed.is_set() and not self._silent):
                    self.drop()
                    raise
            except BaseException:
                self.drop()
                raise
            # From here on nothing of gRPC's is in an error's context.
            self.drop()
            if self._closed.is_set():
                break
            if nothing := self._state.gone(failure):
                return nothing
            wait = await self._next_wait(failure)
            if wait is None:
                break
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._closed.wait(), wait)
        self._closed.set()
        raise StopAsyncIteration

    async def _read(self) -> Any:
        if self._stream is None:
            self._silent = False
            self._stream = self._call(self._state.request())
        guard = asyncio.get_running_loop().call_later(self._state.terms.silence, self._hush)
        try:
            return await self._stream.read()
        finally:
            guard.cancel()

    def _hush(self) -> None:
        self._silent = True
        if self._stream is not None:
            self._stream.cancel()

    async def _next_wait(self, failure: ApiError | Gap | None) -> float | None:
        """Seconds before the next stream; None when the watch has ended."""
        if self._silent:
            return self._state.silent()
        if isinstance(failure, Gap):
            return self._state.gap(failure)
        if failure is not None:
            return self._state.broken(failure)
        if self._state.ended():
            return None
        if self._look and self._state.doubtful():
            try:
                found = await self._look()
            except ApiError as error:
                unseen = error
            else:
                return None if self._state.found(found) else self._state.early()
            return self._state.broken(unseen)
        return self._state.early()

    def drop(self) -> None:
        """Ends the present stream; the next item opens another one."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()

    def close(self) -> None:
        """Ends the watch; who waits for its next item is told that there is none."""
        self._closed.set()
        self.drop()

    async def __aenter__(self) -> Watch[Asked]:
        """The watch itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes it."""
        self.close()


def _is_told_to_end() -> bool:
    """Whether the present task itself is being cancelled. Python 3.10 can't tell."""
    cancelling = getattr(asyncio.current_task(), "cancelling", None)
    return cancelling is not None and cancelling() > 0


class _Unary:
    """One RPC with what happens to every call: token, request id, repetition, typed errors."""

    def __init__(self, call: Any, method: str, metadata: Metadata, timeout: float, backoff: Backoff) -> None:
        self._call, self._method, self._metadata, self._timeout, self._backoff = call, method, metadata, timeout, backoff

    async def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **more: Any) -> Any:
        request = with_request_id(request)
        tries = Tries(self._backoff, self._timeout if timeout is None else timeout, repeatable(self._method, request))
        while True:
            try:
                return await self.once(request, tries.left(), metadata, **more)
            except ApiError as error:
                wait = tries.wait(error)
            await asyncio.sleep(wait)

    async def once(self, request: Any, timeout: float, metadata: Any = None, **more: Any) -> Any:
        """One try, with typed errors."""
        try:
            return await self._call(request, timeout=timeout, metadata=(*(metadata or ()), *self._metadata), **more)
        except grpc.RpcError as error:
            failure = from_rpc_error(error)
        # Outside of the handler, so that nobody's traceback begins in gRPC.
        raise failure


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
