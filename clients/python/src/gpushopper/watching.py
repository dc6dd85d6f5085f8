"""The state of a watch: what has been told, where to go on, and what to do when a stream breaks. No I/O: the two clients
drive it, each in its own way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeAlias, TypeVar

import grpc

from gpushopper import v1
from gpushopper.connection import Backoff, copied
from gpushopper.errors import ApiError

_log = logging.getLogger("gpushopper")
_ANEW = ("WATCH_COMPACTED", "WATCH_STORE_REPLACED")
# Without an ErrorInfo these are the transport's, not the service's: a connection that broke in the midst of a stream.
_BROKEN = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.DATA_LOSS,
)
_FINAL = (v1.Session.STATE_STOPPED, v1.Session.STATE_FAILED)
_MOST_GAPS = 3
_MOST_AFTER_END = 3
"""Streams that are opened in a row after one was lost on which the session's end was told already."""
BOOKMARK = 15.0
"""Seconds of silence after which a watch asks the server for a sign of life."""

Asked = TypeVar("Asked", v1.WatchSessionRequest, v1.WatchSessionsRequest)
Told: TypeAlias = v1.WatchSessionResponse | v1.WatchSessionsResponse


@dataclass(frozen=True)
class Snapshot:
    """The sessions as they stood when the watch began, or began anew. It replaces everything known before."""

    sessions: tuple[v1.Session, ...]
    """Those that match."""
    end: v1.SnapshotEnd
    """Their counts and what they cost per hour."""
    reset: str = ""
    """Why the watch had to begin anew, so that events may have been missed: `WATCH_COMPACTED` or `WATCH_STORE_REPLACED`.
    Empty for the first snapshot."""


WatchItem: TypeAlias = Snapshot | v1.SessionEvent
"""What a watch tells."""


class Gap(Exception):
    """An event is missing before this one: the stream is opened again from the last token."""


OnLost: TypeAlias = Callable[[ApiError, float], object]
"""Is called with what was wrong and the seconds until the watch opens its stream again."""


@dataclass(frozen=True)
class Terms:
    """Where a watch begins and how it goes on."""

    resume_token: str = ""
    from_now: bool = False
    ended_since: datetime | None = None
    bookmark: float = BOOKMARK
    give_up: float | None = None
    on_lost: OnLost | None = None

    @property
    def silence(self) -> float:
        """Seconds without a word after which a stream is lost: two bookmarks should have come."""
        return 2 * self.bookmark + 5


class WatchState(Generic[Asked]):
    """Where a watch stands."""

    def __init__(self, asked: Asked, terms: Terms, backoff: Backoff) -> None:
        """Begins with a request that says what is watched, without its start."""
        self._asked: Asked = copied(asked)
        self._asked.bookmark_interval.FromTimedelta(timedelta(seconds=terms.bookmark))
        self.terms = terms
        self._backoff = backoff
        self._single = isinstance(asked, v1.WatchSessionRequest)
        self._told: list[v1.Session] = []
        self._hide = terms.from_now and not terms.resume_token
        self._reset = ""
        self._revision = 0
        self._sequence: int | None = None
        self._final = False
        self._heard = False
        self._last_word = time.monotonic()
        self._failures = 0
        self._gaps = 0
        self.resume_token: str = terms.resume_token
        """Watch from here to go on after the last item that was given out."""

    def request(self) -> Asked:
        """What the next stream is asked for."""
        self._told.clear()
        self._heard = False
        request: Asked = copied(self._asked)
        if self.resume_token:
            request.resume_token = self.resume_token
        elif self.terms.ended_since and not self.terms.from_now and isinstance(request, v1.WatchSessionsRequest):
            request.ended_since.FromDatetime(self.terms.ended_since)
        return request

    def take(self, message: Told) -> WatchItem | None:
        """What a message tells its reader, if anything.

        Raises:
            Gap: it can't be the next one.
        """
        self._heard, self._last_word = True, time.monotonic()
        kind = message.WhichOneof("message")
        if kind == "snapshot":
            self._told.append(message.snapshot)
            return None
        item: WatchItem | None = None
        if kind == "snapshot_end":
            snapshot = Snapshot(tuple(self._told), message.snapshot_end, self._reset)
            if self._single and self._told:
                self._sequence, self._final = self._told[0].sequence, self._told[0].state in _FINAL
            # Asked for all the same, so that there is a token before the first event.
            item = None if self._hide else snapshot
            self._revision, self._reset, self._hide = message.snapshot_end.revision, "", False
            self._told.clear()
        elif kind == "event":
            event, self._failures = message.event, 0
            if event.revision > self._revision:
                if self._single and self._sequence is not None and event.sequence != self._sequence + 1:
                    raise Gap(f"event {event.sequence} of session {event.session_id} came after event {self._sequence}")
                item, self._revision, self._sequence, self._gaps = event, event.revision, event.sequence, 0
                self._final = event.to_state in _FINAL
        elif kind == "bookmark":
            self._revision, self._failures = max(self._revision, message.bookmark.revision), 0
        self.resume_token = message.resume_token or self.resume_token
        return item

    def gap(self, gap: Gap) -> float | None:
        """Seconds to wait after a gap before the next stream; raises when it does not go away."""
        self._gaps += 1
        error = ApiError(grpc.StatusCode.DATA_LOSS, str(gap))
        if self._gaps > _MOST_GAPS:
            raise error
        return self._again(error)

    def gone(self, error: ApiError | Gap | None) -> Snapshot | None:
        """What is told when the one session is not in the database with which the watch was to begin anew: the reason, and nothing. The
        next stream says that there is no such session."""
        if not self._reset or not isinstance(error, ApiError) or error.reason != "SESSION_NOT_FOUND":
            return None
        nothing, self._reset = Snapshot((), v1.SnapshotEnd(), self._reset), ""
        return nothing

    def broken(self, error: ApiError) -> float | None:
        """Seconds to wait after an error before the next stream, None when the watch has ended; raises it when no further stream helps."""
        later = error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and error.retry_after > 0
        if error.retryable or later or (not error.reason and error.code in _BROKEN):
            return self._again(error)
        if self.ended():
            return None
        if error.reason in _ANEW:
            _log.warning("the watch begins anew: %s", error)
            self._reset, self.resume_token, self._revision, self._sequence, self._final = error.reason, "", 0, None, False
            self._hide = False
            return self._again(error)
        raise error

    def silent(self) -> float | None:
        """Seconds to wait before the next stream when this one said nothing for too long."""
        silence = f"not a word for {self.terms.silence:g} s: the connection is lost"
        return self._again(ApiError(grpc.StatusCode.UNAVAILABLE, silence))

    def early(self) -> float | None:
        """Seconds to wait before the next stream when this one ended in order, but not the watch."""
        return self._again(ApiError(grpc.StatusCode.UNAVAILABLE, "the stream ended before there was an end"))

    def ended(self) -> bool:
        """Whether the one session's end was told, so that a stream that ends in order is the end of the watch; that of many never ends."""
        return self._single and self._final

    def doubtful(self) -> bool:
        """Whether such an end may be one all the same: the token may be that of the last event."""
        return self._single and not self._final and not self._heard and bool(self.resume_token)

    def found(self, session: v1.Session) -> bool:
        """Whether a session that was looked at in doubt has ended."""
        return session.state in _FINAL

    def _again(self, error: ApiError) -> float | None:
        wait = self._backoff.wait(self._failures, max(error.retry_after, self._backoff.initial / 2))
        self._failures += 1
        give_up = self.terms.give_up
        over = give_up is not None and time.monotonic() + wait - self._last_word > give_up
        # What may still follow a session's end is not worth waiting for a server that has gone for good.
        if self.ended() and (over or self._failures > _MOST_AFTER_END):
            return None
        if over:
            raise error
        _log.info("the watch is interrupted and goes on: %s", error)
        if self.terms.on_lost:
            self.terms.on_lost(error, wait)
        return wait
