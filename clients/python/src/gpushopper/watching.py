"""The state of a watch: what has been told, where to go on, and what to do when a stream breaks. No I/O: the two clients
drive it, each in its own way."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import grpc

from gpushopper import v1
from gpushopper.connection import Backoff, copied
from gpushopper.errors import ApiError

_log = logging.getLogger("gpushopper")
_ANEW = ("WATCH_COMPACTED", "WATCH_STORE_REPLACED")
# Without an ErrorInfo these are the transport's, not the service's: a connection that broke in the midst of a stream.
_BROKEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.CANCELLED)
_MOST_GAPS = 3

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


class WatchState(Generic[Asked]):
    """Where a watch stands."""

    def __init__(self, asked: Asked, backoff: Backoff) -> None:
        """Begins with the request as its caller made it."""
        self._asked: Asked = asked
        self._backoff = backoff
        self._single = isinstance(asked, v1.WatchSessionRequest)
        self._told: list[v1.Session] = []
        self._reset = ""
        self._revision = 0
        self._sequence: int | None = None
        self._failures = 0
        self._gaps = 0
        self.resume_token: str = asked.resume_token
        """Watch from here to go on after the last item that was given out."""

    def request(self) -> Asked:
        """What the next stream is asked for."""
        self._told.clear()
        request: Asked = copied(self._asked)
        if self.resume_token:
            request.resume_token = self.resume_token
        return request

    def take(self, message: Told) -> WatchItem | None:
        """What a message tells its reader, if anything.

        Raises:
            Gap: it can't be the next one.
        """
        kind = message.WhichOneof("message")
        if kind == "snapshot":
            self._told.append(message.snapshot)
            return None
        self._failures = 0
        item: WatchItem | None = None
        if kind == "snapshot_end":
            item = Snapshot(tuple(self._told), message.snapshot_end, self._reset)
            self._sequence = self._told[0].sequence if self._single and self._told else None
            self._revision, self._reset = message.snapshot_end.revision, ""
            self._told.clear()
        elif kind == "event":
            event = message.event
            if event.revision > self._revision:
                if self._single and self._sequence is not None and event.sequence != self._sequence + 1:
                    raise Gap(f"event {event.sequence} of session {event.session_id} came after event {self._sequence}")
                item, self._revision, self._sequence, self._gaps = event, event.revision, event.sequence, 0
        elif kind == "bookmark":
            self._revision = max(self._revision, message.bookmark.revision)
        self.resume_token = message.resume_token or self.resume_token
        return item

    def gap(self, gap: Gap) -> float:
        """Seconds to wait after a gap before the next stream; raises when it does not go away."""
        self._gaps += 1
        if self._gaps > _MOST_GAPS:
            raise ApiError(grpc.StatusCode.DATA_LOSS, str(gap))
        _log.warning("%s; watching again from the last token", gap)
        return self._backoff.wait(self._gaps)

    def broken(self, error: ApiError) -> float:
        """Seconds to wait after an error before the next stream; raises it when no further stream helps."""
        if error.reason in _ANEW:
            _log.warning("the watch begins anew: %s", error)
            self._reset, self.resume_token, self._revision, self._sequence = error.reason, "", 0, None
            if self._asked.WhichOneof("start") == "resume_token":
                self._asked.ClearField("resume_token")
        elif not error.retryable and (error.reason or error.code not in _BROKEN):
            raise error
        else:
            _log.info("the watch is interrupted and goes on: %s", error)
        wait = self._backoff.wait(self._failures, error.retry_after)
        self._failures += 1
        return wait

    def ended(self) -> bool:
        """Whether a stream that ended with OK is the end: a session's is after its last event, that of many never ends."""
        return self._single


def one(session_id: str, resume_token: str) -> v1.WatchSessionRequest:
    """The request for one session's events."""
    request = v1.WatchSessionRequest(session_id=session_id)
    if resume_token:
        request.resume_token = resume_token
    return request
