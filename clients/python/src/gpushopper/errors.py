"""Errors of the service, typed. Each is an `ApiError`; ask for `reason`, which is stable, and not for the message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from gpushopper import v1

DOMAIN = "gpushopper"


@dataclass(frozen=True)
class Violation:
    """A wrong field of a request."""

    field: str
    """Its path: `requirements.filter.gpu_count`."""
    description: str
    """Its value and what is allowed."""


class ApiError(Exception):
    """A call that the service refused or that did not get through."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Iterable[Violation] = (),
        retry_after: float = 0.0,
    ) -> None:
        """Made from what a call told; see the fields."""
        super().__init__(message)
        self.code = code
        """The gRPC code."""
        self.message = message
        """What happened and what to do, for people."""
        self.reason = reason
        """Stable name, such as `NO_CAPACITY`: see the table in the service's README. Empty when the service told nothing,
        which is the case when a call did not get through."""
        self.metadata = dict(metadata or {})
        """The variables of the message: `relax_field`, `max_expire_time`, …"""
        self.violations = tuple(violations)
        """Every wrong field of the request, all at once."""
        self.retry_after = retry_after
        """Seconds to wait before trying again, when the service told; else 0."""

    @property
    def retryable(self) -> bool:
        """Whether the same call may work later without any change: the code is UNAVAILABLE."""
        return self.code is grpc.StatusCode.UNAVAILABLE

    def __str__(self) -> str:
        """Code, reason and message in one line."""
        return f"{self.code.name} {self.reason}: {self.message}" if self.reason else f"{self.code.name}: {self.message}"


class SessionEnded(Exception):
    """A session ended before it came to what was waited for. `session` says why: `end_reason`, `error`."""

    def __init__(self, session: v1.Session) -> None:
        """The session as it was found."""
        super().__init__(f"session {session.session_id} has ended: {session.error or session.status_message}")
        self.session = session
        """The session after its end."""


def from_rpc_error(error: grpc.RpcError) -> ApiError:
    """Reads `ErrorInfo`, `BadRequest` and `RetryInfo` out of an error of gRPC."""
    raw: Any = error
    code, message = raw.code(), raw.details() or ""
    details = status_pb2.Status()
    for key, value in raw.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            try:
                details.ParseFromString(value)
            except DecodeError:
                details.Clear()
    info, request, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in details.details:
        for known in (info, request, retry):
            if detail.TypeName() == known.DESCRIPTOR.full_name:
                detail.Unpack(known)
    ours = info.domain == DOMAIN
    return ApiError(
        code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN,
        message,
        reason=info.reason if ours else "",
        metadata=dict(info.metadata) if ours else {},
        violations=[Violation(one.field, one.description) for one in request.field_violations],
        retry_after=retry.retry_delay.ToTimedelta().total_seconds(),
    )
