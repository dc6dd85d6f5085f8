"""The client for ordinary, blocking programs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast
from weakref import ref

import grpc

from gpushopper import v1
from gpushopper.connection import Backoff, Metadata, Tries, address, copied, repeatable, with_request_id
from gpushopper.errors import ApiError, SessionEnded, from_rpc_error
from gpushopper.watching import BOOKMARK, Asked, Gap, OnLost, Terms, Told, WatchItem, WatchState

_LONG_POLL = 30.0
"""Seconds that one WaitSession may take."""
_WAIT = 30 * 60.0
"""Seconds that a wait may take when nothing is said."""


_GRACE = 10.0
"""Seconds that an answer may take on its way."""
States: TypeAlias = tuple[v1.Session.State.ValueType, ...]
Ask: TypeAlias = Callable[[v1.WaitSessionRequest, float], v1.WaitSessionResponse]


class Wait:
    """A wait for a session's state: many questions, each of which the server answers late. No I/O."""

    def __init__(self, session_id: str, until: States, timeout: float | None, backoff: Backoff) -> None:
        """Begins now; `timeout` in seconds is for all questions together, None is no limit."""
        self._session_id, self._until, self._timeout, self._backoff = session_id, until, timeout, backoff
        self._end = None if timeout is None else time.monotonic() + timeout
        self._failures = 0

    def left(self) -> float:
        """Seconds that the next question may take."""
        return _LONG_POLL if self._end is None else max(0.0, min(_LONG_POLL, self._end - time.monotonic()))

    def request(self) -> v1.WaitSessionRequest:
        """The next question."""
        request = v1.WaitSessionRequest(session_id=self._session_id, until=self._until)
        request.timeout.FromTimedelta(timedelta(seconds=self.left()))
        return request

    def over(self, answer: v1.WaitSessionResponse) -> bool:
        """Whether this answer ends the wait; raises TimeoutError when it does not and nor may it go on."""
        state = answer.session.state
        self._failures = 0
        if state in (*self._until, v1.Session.STATE_STOPPED, v1.Session.STATE_FAILED):
            return True
        if self.left() == 0.0:
            raise TimeoutError(f"session {self._session_id} is still {v1.Session.State.Name(state)} after {self._timeout:g} s")
        return False

    def failed(self, error: ApiError) -> float:
        """Seconds before the next question after one that failed; raises the error when there is none."""
        wait = self._backoff.wait(self._failures, error.retry_after)
        self._failures += 1
        away = error.retryable or error.code is grpc.StatusCode.DEADLINE_EXCEEDED
        if not away or (self._end is not None and time.monotonic() + wait >= self._end):
            raise error
        return wait


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
            url: `http://HOST:PORT`, `https://HOST:PORT`, or `HOST:PORT`, which is http. Default: `GPU_SHOPPER_URL`, else `http://127.0.0.1:8080`.
            token: what the server knows you by; empty is none. Default: `GPU_SHOPPER_TOKEN` or the file `GPU_SHOPPER_TOKEN_FILE`.
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
        """Every event of one session, each once and in order, over cuts and restarts; ends after the last one.

        Without a token it begins with a `Snapshot`. The create answer's `resume_token` begins with the first event.

        Args:
            session_id: the session.
            resume_token: begin strictly after it; empty is none.
            from_now: without a token: only what happens next, no snapshot.
            bookmark: the server gives a sign of life after so many seconds of silence, 5 to 60; after twice that and 5 seconds
                the stream is lost and opened again.
            give_up: raise the last error after so many seconds without a word from the server. Default: never.
            on_lost: called with the error and the seconds of the wait each time that the stream is opened again.
        """
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
        """Every event of all sessions that match, each once and in order, over cuts and restarts. Never ends by itself.

        Begins with a `Snapshot` of the open sessions (with `ended_since` also of those that ended since then), or
        strictly after a token of an earlier watch with the same filter. The other arguments are those of `watch_session`.
        """
        terms = Terms(resume_token, from_now, ended_since, bookmark, give_up, on_lost)
        return Watch(self.sessions.WatchSessions, v1.WatchSessionsRequest(filter=filter), terms, self._backoff)

    def _look(self, session_id: str) -> v1.Session:
        return self.sessions.GetSession(v1.GetSessionRequest(session_id=session_id)).session

    def wait_running(self, session_id: str, timeout: float | None = _WAIT) -> v1.Session:
        """Waits until a session runs, verified and ready to log in.

        Raises:
            SessionEnded: it ended before it ran, is ending now, or has ended since.
            TimeoutError: so many seconds were not enough. Default: 30 minutes; None: as long as it takes.
        """
        session = self._wait(session_id, (v1.Session.STATE_RUNNING, v1.Session.STATE_STOPPING), timeout)
        if session.state != v1.Session.STATE_RUNNING:
            raise SessionEnded(session)
        return session

    def wait_ended(self, session_id: str, timeout: float | None = _WAIT) -> v1.Session:
        """Waits until a session has ended and every machine of it is proven gone; raises TimeoutError as `wait_running`."""
        return self._wait(session_id, (v1.Session.STATE_STOPPED, v1.Session.STATE_FAILED), timeout)

    def _wait(self, session_id: str, until: States, timeout: float | None) -> v1.Session:
        wait = Wait(session_id, until, timeout, self._backoff)
        ask: Ask = cast(_Unary, self.sessions.WaitSession).once  # the wait repeats by itself
        while True:
            try:
                answer = ask(wait.request(), wait.left() + _GRACE)
            except ApiError as error:
                failure = error
            else:
                if wait.over(answer):
                    return answer.session
                continue
            time.sleep(wait.failed(failure))

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

    def __init__(
        self,
        call: Callable[[Asked], Any],
        request: Asked,
        terms: Terms,
        backoff: Backoff,
        look: Callable[[], v1.Session] | None = None,
    ) -> None:
        """Opens the stream when the first item is asked for. `look` gets the one session, if it is one."""
        self._call: Callable[[Asked], Any] = call
        self._state: WatchState[Asked] = WatchState(request, terms, backoff)
        self._look = look
        self._stream: Any = None
        self._closed = threading.Event()
        self._due: float | None = None
        """When the stream that is read now is lost for its silence."""
        self._silent = False
        self._guarded = False

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
            failure: ApiError | Gap | None = None
            try:
                item = self._take()
                if item is not None:
                    return item
                continue
            except StopIteration:
                pass
            except Gap as gap:
                failure = gap
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
            # From here on nothing of gRPC's is in an error's context.
            self._drop()
            if self._closed.is_set():
                break
            if nothing := self._state.gone(failure):
                return nothing
            wait = self._next_wait(failure)
            if wait is None:
                break
            self._closed.wait(wait)
        self._closed.set()
        raise StopIteration

    def _take(self) -> WatchItem | None:
        if self._stream is None:
            self._silent = False
            self._stream = self._call(self._state.request())
        if not self._guarded:
            self._guarded = True
            threading.Thread(target=_guard, args=(ref(self), self._closed, self._state.terms.silence), daemon=True).start()
        self._due = time.monotonic() + self._state.terms.silence
        try:
            message: Told = next(self._stream)
        finally:
            self._due = None
        return self._state.take(message)

    def _next_wait(self, failure: ApiError | Gap | None) -> float | None:
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
                found = self._look()
            except ApiError as error:
                unseen = error
            else:
                return None if self._state.found(found) else self._state.early()
            return self._state.broken(unseen)
        return self._state.early()

    def _hush(self) -> float:
        """Ends a stream that is silent for too long; seconds until it is to be looked at again."""
        due, silence = self._due, self._state.terms.silence
        if due is None:
            return silence  # what is read later than now is due later than that
        left = due - time.monotonic()
        stream = self._stream
        if left <= 0 and stream is not None:
            self._silent = True
            stream.cancel()
        return left if left > 0 else silence

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


def _guard(watched: ref[Watch[Any]], closed: threading.Event, silence: float) -> None:
    """Sees to it that a silent stream is noticed, since reading one has no time limit. Ends with the watch, also one that was forgotten."""
    wait = silence
    while not closed.wait(wait):
        watch = watched()
        if watch is None:
            return
        wait = watch._hush()
        del watch


class _Unary:
    """One RPC with what happens to every call: token, request id, repetition, typed errors."""

    def __init__(self, call: Any, method: str, metadata: Metadata, timeout: float, backoff: Backoff) -> None:
        self._call, self._method, self._metadata, self._timeout, self._backoff = call, method, metadata, timeout, backoff

    def __call__(self, request: Any, timeout: float | None = None, metadata: Any = None, **more: Any) -> Any:
        request = with_request_id(request)
        tries = Tries(self._backoff, self._timeout if timeout is None else timeout, repeatable(self._method, request))
        while True:
            try:
                return self.once(request, tries.left(), metadata, **more)
            except ApiError as error:
                wait = tries.wait(error)
            time.sleep(wait)

    def once(self, request: Any, timeout: float, metadata: Any = None, **more: Any) -> Any:
        """One try, with typed errors."""
        try:
            return self._call(request, timeout=timeout, metadata=(*(metadata or ()), *self._metadata), **more)
        except grpc.RpcError as error:
            failure = from_rpc_error(error)
        # Outside of the handler, so that nobody's traceback begins in gRPC.
        raise failure

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
