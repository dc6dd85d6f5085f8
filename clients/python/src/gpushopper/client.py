"""The client for ordinary, blocking programs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import grpc

from gpushopper import v1
from gpushopper.connection import Backoff, Metadata, Tries, address, copied, repeatable, with_request_id
from gpushopper.errors import ApiError, SessionEnded, from_rpc_error
from gpushopper.watching import Asked, Gap, Told, WatchItem, WatchState, one

_LONG_POLL = 30.0
"""Seconds that one WaitSession may take."""


class Page(Protocol):
    """A response of a paged call."""

    @property
    def next_page_token(self) -> str:
        """Where the next page starts; empty at the end."""


_Page = TypeVar("_Page", bound=Page)


class Client:
    """A connection to the service. Thread-safe; make one and keep it.

    Every RPC is there, by service: `client.sessions.CreateSession(v1.CreateSessionRequest(…))`. Calls are named
    (`request_id`) and repeated while the server is away, as far as that is safe, and raise `ApiError`.
    """

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
        """Connects when it is first used.

        Args:
            url: `http://HOST:PORT` or `https://HOST:PORT`. Default: `GPU_SHOPPER_URL`, else `http://127.0.0.1:8080`.
            token: what the server knows you by. Default: `GPU_SHOPPER_TOKEN` or the file `GPU_SHOPPER_TOKEN_FILE`, else none.
            ca_file: certificates (PEM) to trust with https. Default: `GPU_SHOPPER_CA_CERT`, else the system's.
            certificate: the files (PEM) of your own certificate and its key, for a server that asks for one. Default:
                `GPU_SHOPPER_CLIENT_CERT` and `GPU_SHOPPER_CLIENT_KEY`, else none.
            timeout: seconds that a call may take, all its repetitions included; each call has its own `timeout=` too.
            backoff: how long to wait between two tries.
            options: more options of the gRPC channel.
        """
        where = address(url, token, ca_file, certificate, options)
        self._channel = (
            grpc.secure_channel(where.target, where.credentials, where.options)
            if where.credentials
            else grpc.insecure_channel(where.target, where.options)
        )
        channel: Any = _Stubs(self._channel, where.metadata, timeout, backoff)
        self._backoff = backoff
        self.inventory: v1.InventoryServiceStub = v1.InventoryServiceStub(channel)
        """What can be rented now."""
        self.sessions: v1.SessionServiceStub = v1.SessionServiceStub(channel)
        """Rented machines."""
        self.costs: v1.CostServiceStub = v1.CostServiceStub(channel)
        """What they cost."""
        self.operator: v1.OperatorServiceStub = v1.OperatorServiceStub(channel)
        """What an operator looks at and orders."""

    def watch_session(self, session_id: str, *, resume_token: str = "") -> Watch[v1.WatchSessionRequest]:
        """Every event of one session, each once and in order, over cuts and restarts; ends after the last one.

        Without a token it begins with a `Snapshot`. The create answer's `resume_token` begins with the first event.
        """
        return Watch(self.sessions.WatchSession, one(session_id, resume_token), self._backoff)

    def watch_sessions(
        self, filter: v1.SessionFilter | None = None, *, resume_token: str = "", ended_since: datetime | None = None
    ) -> Watch[v1.WatchSessionsRequest]:
        """Every event of all sessions that match, each once and in order, over cuts and restarts. Never ends by itself.

        Begins with a `Snapshot` of the open sessions (with `ended_since` also of those that ended since then), or
        strictly after a token of an earlier watch with the same filter.
        """
        request = v1.WatchSessionsRequest(filter=filter)
        if resume_token:
            request.resume_token = resume_token
        elif ended_since:
            request.ended_since.FromDatetime(ended_since)
        return Watch(self.sessions.WatchSessions, request, self._backoff)

    def wait_running(self, session_id: str, timeout: float | None = None) -> v1.Session:
        """Waits until a session runs, verified and ready to log in.

        Raises:
            SessionEnded: it ended before it ran, or has ended since.
            TimeoutError: so many seconds were not enough. Default: as long as it takes.
        """
        session = self._wait(session_id, v1.Session.STATE_RUNNING, timeout)
        if session.state != v1.Session.STATE_RUNNING:
            raise SessionEnded(session)
        return session

    def wait_ended(self, session_id: str, timeout: float | None = None) -> v1.Session:
        """Waits until a session has ended and every machine of it is proven gone; raises TimeoutError as `wait_running`."""
        return self._wait(session_id, v1.Session.STATE_STOPPED, timeout)

    def _wait(self, session_id: str, state: v1.Session.State.ValueType, timeout: float | None) -> v1.Session:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _LONG_POLL if deadline is None else max(0.0, min(_LONG_POLL, deadline - time.monotonic()))
            request = v1.WaitSessionRequest(session_id=session_id, until=[state])
            request.timeout.FromTimedelta(timedelta(seconds=left))
            try:
                answer = self.sessions.WaitSession(request, timeout=left + _LONG_POLL)
            except ApiError as error:
                if not error.retryable or (deadline is not None and time.monotonic() >= deadline):
                    raise
                continue
            if answer.session.state in (state, v1.Session.STATE_STOPPED, v1.Session.STATE_FAILED):
                return answer.session
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"session {session_id} is still {v1.Session.State.Name(answer.session.state)}")

    def offers(self, request: v1.ListOffersRequest | None = None) -> Iterator[v1.Offer]:
        """All offers that match, over all pages of one snapshot."""
        for page in self.pages(self.inventory.ListOffers, request or v1.ListOffersRequest(page_size=1000)):
            yield from page.offers

    def list_sessions(self, request: v1.ListSessionsRequest | None = None) -> Iterator[v1.Session]:
        """All sessions that match, newest first, over all pages."""
        for page in self.pages(self.sessions.ListSessions, request or v1.ListSessionsRequest(page_size=1000)):
            yield from page.sessions

    def session_events(self, session_id: str, *, page_size: int = 1000) -> Iterator[v1.SessionEvent]:
        """What happened to a session so far, oldest first, over all pages."""
        for page in self.pages(self.sessions.ListSessionEvents, v1.ListSessionEventsRequest(session_id=session_id, page_size=page_size)):
            yield from page.events

    def pages(self, call: Callable[[Any], _Page], request: Any) -> Iterator[_Page]:
        """The pages of any call that has some: `client.pages(client.costs.ListLedgerEntries, request)`."""
        request, token = copied(request), request.page_token
        while True:
            request.page_token = token
            page = call(request)
            yield page
            token = page.next_page_token
            if not token:
                return

    def close(self) -> None:
        """Ends the connection, and with it every watch."""
        self._channel.close()

    def __enter__(self) -> Client:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()


class Watch(Generic[Asked], Iterator[WatchItem]):
    """An iterator over `Snapshot`s and `SessionEvent`s that survives cuts and restarts; it waits as long as the server is away.

    A fresh snapshot comes by itself when the server can't go on from the last token; its `reset` says why.
    """

    def __init__(self, call: Callable[[Asked], Any], request: Asked, backoff: Backoff) -> None:
        """Opens the stream when the first item is asked for."""
        self._call: Callable[[Asked], Any] = call
        self._state: WatchState[Asked] = WatchState(request, backoff)
        self._stream: Any = None
        self._closed = threading.Event()

    @property
    def resume_token(self) -> str:
        """Goes on strictly after the last item that was given out. Keep it with what you made of that item."""
        return self._state.resume_token

    def __iter__(self) -> Watch[Asked]:
        """The watch itself."""
        return self

    def __next__(self) -> WatchItem:
        """The next item.

        Raises:
            ApiError: what no further try helps: an unknown session, a wrong filter, a refused token.
        """
        while not self._closed.is_set():
            try:
                if self._stream is None:
                    self._stream = self._call(self._state.request())
                message: Told = next(self._stream)
                item: WatchItem | None = self._state.take(message)
                if item is not None:
                    return item
                continue
            except StopIteration:
                self._drop()
                if self._state.ended():
                    break
                wait = 0.0
            except Gap as gap:
                self._drop()
                wait = self._state.gap(gap)
            except grpc.RpcError as error:
                self._drop()
                if self._closed.is_set():
                    break
                wait = self._state.broken(from_rpc_error(error))
            self._closed.wait(wait)
        self._closed.set()
        raise StopIteration

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.cancel()

    def close(self) -> None:
        """Ends the watch; may be called from any thread."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def __enter__(self) -> Watch[Asked]:
        """The watch itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()


class _Unary:
    """One RPC with what happens to every call: token, request id, repetition, typed errors."""

    def __init__(self, call: Any, method: str, metadata: Metadata, timeout: float, backoff: Backoff) -> None:
        self._call, self._method, self._metadata, self._timeout, self._backoff = call, method, metadata, timeout, backoff

    def __call__(self, request: Any, timeout: float | None = None, metadata: Any = None, **more: Any) -> Any:
        request = with_request_id(request)
        tries = Tries(self._backoff, self._timeout if timeout is None else timeout, repeatable(self._method, request))
        while True:
            try:
                return self._call(request, timeout=tries.left(), metadata=(*(metadata or ()), *self._metadata), **more)
            except grpc.RpcError as error:
                wait = tries.wait(from_rpc_error(error))
            time.sleep(wait)

    def with_call(self, request: Any, timeout: float | None = None, metadata: Any = None, **more: Any) -> Any:
        """One try, with gRPC's own errors."""
        return self._call.with_call(request, timeout=timeout, metadata=(*(metadata or ()), *self._metadata), **more)

    def future(self, request: Any, timeout: float | None = None, metadata: Any = None, **more: Any) -> Any:
        """One try, with gRPC's own errors."""
        return self._call.future(request, timeout=timeout, metadata=(*(metadata or ()), *self._metadata), **more)


class _Stream:
    """One streaming RPC with the token; the watches do the rest."""

    def __init__(self, call: Any, metadata: Metadata) -> None:
        self._call, self._metadata = call, metadata

    def __call__(self, request: Any, timeout: float | None = None, metadata: Any = None, **more: Any) -> Any:
        return self._call(request, timeout=timeout, metadata=(*(metadata or ()), *self._metadata), **more)


class _Stubs:
    """What a stub asks of a channel."""

    def __init__(self, channel: grpc.Channel, metadata: Metadata, timeout: float, backoff: Backoff) -> None:
        self._channel, self._metadata, self._timeout, self._backoff = channel, metadata, timeout, backoff

    def unary_unary(self, method: str, *how: Any, **more: Any) -> _Unary:
        return _Unary(self._channel.unary_unary(method, *how, **more), method, self._metadata, self._timeout, self._backoff)

    def unary_stream(self, method: str, *how: Any, **more: Any) -> _Stream:
        return _Stream(self._channel.unary_stream(method, *how, **more), self._metadata)
