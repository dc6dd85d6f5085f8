"""What both clients share about connecting and repeating: addresses, credentials, waits, request ids."""

from __future__ import annotations

import os
import random
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import Message

from gpushopper.errors import ApiError

Request = TypeVar("Request", bound=Message)
Metadata: TypeAlias = tuple[tuple[str, str], ...]
"""What goes with a call beside its request."""

_SECURE_PORT, _CLEAR_PORT = 443, 80
_READS = ("Get", "List", "Explain", "Wait")
# Dead connections are noticed, and after a cut the next try is made soon.
_OPTIONS: dict[str, int] = {
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.http2.ping_timeout_ms": 10_000,
    "grpc.http2.max_pings_without_data": 0,
    "grpc.initial_reconnect_backoff_ms": 50,
    "grpc.min_reconnect_backoff_ms": 50,
    "grpc.max_reconnect_backoff_ms": 1_000,
    "grpc.max_receive_message_length": 16 * 1024 * 1024,
    "grpc.use_local_subchannel_pool": 1,
}


@dataclass(frozen=True)
class Backoff:
    """How long to wait before a further try: a random part of `initial`, doubled with each failure, at most `maximum` seconds."""

    initial: float = 0.1
    maximum: float = 5.0

    def wait(self, failures: int, at_least: float = 0.0) -> float:
        """Seconds before the try after so many failures in a row; not less than what the server asks for."""
        most = min(self.maximum, self.initial * 2.0 ** min(failures, 30))
        return at_least + random.uniform(0, most)


@dataclass(frozen=True)
class Address:
    """Where the server is and how it is spoken to."""

    target: str
    """Host and port."""
    credentials: grpc.ChannelCredentials | None
    """TLS; without it in clear."""
    metadata: Metadata
    """What goes with every call: the token."""
    options: list[tuple[str, Any]] = field(default_factory=list)
    """Options of the channel."""


def address(
    url: str | None,
    token: str | None,
    ca_file: str | os.PathLike[str] | None,
    certificate: tuple[str | os.PathLike[str], str | os.PathLike[str]] | None,
    options: dict[str, Any] | None,
) -> Address:
    """Reads a URL.

    Raises:
        ValueError: the URL or the token is none.
        OSError: a file that was named can't be read.
    """
    url = url or os.environ.get("GPU_SHOPPER_URL") or "http://127.0.0.1:8080"
    token = _token() if token is None else token
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("the token has characters that no header can carry, such as a space or the end of a line")
    ca_file = ca_file or os.environ.get("GPU_SHOPPER_CA_CERT") or None
    secure, target = _target(url)
    roots = Path(ca_file).read_bytes() if ca_file and secure else None
    chain = os.environ.get("GPU_SHOPPER_CLIENT_CERT"), os.environ.get("GPU_SHOPPER_CLIENT_KEY")
    mine, key = certificate or chain
    if bool(mine) != bool(key):
        raise ValueError("a certificate needs its key: give both GPU_SHOPPER_CLIENT_CERT and GPU_SHOPPER_CLIENT_KEY, or none of them")
    pair = (Path(key).read_bytes(), Path(mine).read_bytes()) if mine and key and secure else (None, None)
    return Address(
        target=target,
        credentials=grpc.ssl_channel_credentials(roots, *pair) if secure else None,
        metadata=(("authorization", f"Bearer {token}"),) if token else (),
        options=list((_OPTIONS | (options or {})).items()),
    )


def _target(url: str) -> tuple[bool, str]:
    """Whether by TLS, and the host and port of an address."""
    allowed = "allowed: http://HOST:PORT, https://HOST:PORT or HOST:PORT"
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port
    except ValueError:
        raise ValueError(f"the server's address makes no sense; {allowed}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"the server's address has a user; {allowed}; a token is given as such, or by GPU_SHOPPER_TOKEN")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no address of a server; {allowed}")
    secure = parts.scheme == "https"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return secure, f"{host}:{port or (_SECURE_PORT if secure else _CLEAR_PORT)}"


def _token() -> str | None:
    file = os.environ.get("GPU_SHOPPER_TOKEN_FILE")
    return os.environ.get("GPU_SHOPPER_TOKEN") or (Path(file).read_text(encoding="utf-8").strip() if file else None) or None


def copied(request: Request) -> Request:
    """A request to change, while its caller's stays as it is."""
    copy = type(request)()
    copy.CopyFrom(request)
    return copy


def with_request_id(request: Request) -> Request:
    """The request, with an id of its own when it takes one and has none, so that it can be repeated."""
    if "request_id" not in request.DESCRIPTOR.fields_by_name or getattr(request, "request_id"):  # noqa: B009
        return request
    named = copied(request)
    setattr(named, "request_id", str(uuid.uuid4()))  # noqa: B010
    return named


def repeatable(method: str | bytes, request: Message) -> bool:
    """Whether doing this twice comes to the same as doing it once: reads, and what has a request id."""
    name = (method.decode() if isinstance(method, bytes) else method).rsplit("/", 1)[-1]
    return name.startswith(_READS) or bool(getattr(request, "request_id", ""))


class Tries:
    """The tries of one call, until its deadline."""

    def __init__(self, backoff: Backoff, timeout: float, repeatable: bool) -> None:
        """Starts now; `timeout` in seconds is for all tries together."""
        self._backoff = backoff
        self._deadline = time.monotonic() + timeout
        self._repeatable = repeatable
        self._failures = 0

    def left(self) -> float:
        """Seconds that are left for the next try."""
        return max(self._deadline - time.monotonic(), 0.001)

    def wait(self, error: ApiError) -> float:
        """Seconds to wait before the next try; raises the error when there is none."""
        wait = self._backoff.wait(self._failures, error.retry_after)
        self._failures += 1
        if not (self._repeatable and error.retryable) or wait >= self.left():
            raise error.with_traceback(None)  # which would tell the same once more
        return wait
