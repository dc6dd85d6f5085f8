"""The layer by hand, against a server of canned answers in the same process."""

import asyncio
import contextlib
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from gpushopper import ApiError, Backoff, Client, Snapshot, aio, from_decimal, money, save_key, to_decimal, v1
from gpushopper.v1 import operator_service_pb2_grpc, session_service_pb2_grpc

QUICK = Backoff(0.001, 0.005)


def status(code: Any, message: str, *details: Any) -> Any:
    packed = []
    for detail in details:
        one = any_pb2.Any()
        one.Pack(detail)
        packed.append(one)
    return rpc_status.to_status(status_pb2.Status(code=code, message=message, details=packed))


def unavailable(reason: str = "RESTARTING") -> Any:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(2)
    return status(code_pb2.UNAVAILABLE, "come again", error_details_pb2.ErrorInfo(domain="gpushopper", reason=reason), retry)


class Canned(session_service_pb2_grpc.SessionServiceServicer, operator_service_pb2_grpc.OperatorServiceServicer):
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.tokens: list[str] = []
        self.failures: list[Any] = []
        self.streams: list[list[Any]] = []

    def note(self, request: Any, context: grpc.ServicerContext) -> None:
        self.asked.append(request)
        self.tokens += [str(value) for key, value in context.invocation_metadata() if key == "authorization"]
        if self.failures:
            context.abort_with_status(self.failures.pop(0))

    def CreateSession(self, request: Any, context: Any) -> v1.CreateSessionResponse:
        self.note(request, context)
        return v1.CreateSessionResponse(session=v1.Session(session_id="s"), ssh_private_key="secret")

    def GetSession(self, request: Any, context: Any) -> v1.GetSessionResponse:
        self.note(request, context)
        return v1.GetSessionResponse(session=v1.Session(session_id="s"))

    def RetryDestroy(self, request: Any, context: Any) -> v1.RetryDestroyResponse:
        self.note(request, context)
        return v1.RetryDestroyResponse()

    def WatchSession(self, request: Any, context: Any) -> Iterator[v1.WatchSessionResponse]:
        self.note(request, context)
        for message in self.streams.pop(0):
            if isinstance(message, v1.WatchSessionResponse):
                yield message
            elif message is None:  # it stays open
                ended = threading.Event()
                context.add_callback(ended.set)
                ended.wait(60)
            else:
                context.abort_with_status(message)


def serve(canned: Canned, credentials: grpc.ServerCredentials | None = None) -> tuple[grpc.Server, int]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    session_service_pb2_grpc.add_SessionServiceServicer_to_server(canned, server)
    operator_service_pb2_grpc.add_OperatorServiceServicer_to_server(canned, server)
    port = server.add_secure_port("127.0.0.1:0", credentials) if credentials else server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


@pytest.fixture
def canned() -> Canned:
    return Canned()  # type: ignore[abstract]


@pytest.fixture
def url(canned: Canned) -> Iterator[str]:
    server, port = serve(canned)
    yield f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def blocking(url: str, service: str, method: str, request: Any, **options: Any) -> Any:
    with Client(url, backoff=QUICK, **options) as client:
        return getattr(getattr(client, service), method)(request)


def asynchronous(url: str, service: str, method: str, request: Any, **options: Any) -> Any:
    async def play() -> Any:
        async with aio.Client(url, backoff=QUICK, **options) as client:
            return await getattr(getattr(client, service), method)(request)

    return asyncio.run(play())


Call = Callable[..., Any]
both = pytest.mark.parametrize("call", [blocking, asynchronous])


@both
def test_a_call_gets_a_request_id_and_keeps_it_over_all_tries(url: str, canned: Canned, call: Call) -> None:
    canned.failures = [unavailable(), unavailable("SERVER_DRAINING"), status(code_pb2.UNAVAILABLE, "no word from us")]
    mine = v1.CreateSessionRequest(offer_id="vastai-1")
    assert call(url, "sessions", "CreateSession", mine, token="t0k").session.session_id == "s"
    assert len(canned.asked) == 4
    assert len({request.request_id for request in canned.asked}) == 1
    assert len(canned.asked[0].request_id) == 36
    assert mine.request_id == "", "the caller's request stays as it is"
    assert canned.tokens == ["Bearer t0k"] * 4
    call(url, "sessions", "CreateSession", v1.CreateSessionRequest(request_id="own"))
    assert canned.asked[-1].request_id == "own"


@both
def test_what_may_do_harm_twice_is_not_repeated(url: str, canned: Canned, call: Call) -> None:
    canned.failures = [unavailable(), unavailable()]
    with pytest.raises(ApiError) as told:
        call(url, "operator", "RetryDestroy", v1.RetryDestroyRequest(label="gs-1"))
    assert (told.value.reason, told.value.retryable, told.value.retry_after) == ("RESTARTING", True, 0.002)
    assert len(canned.asked) == 1
    assert call(url, "sessions", "GetSession", v1.GetSessionRequest(session_id="s")).session.session_id == "s", "a read is"


@both
def test_a_call_gives_up_at_its_deadline(url: str, canned: Canned, call: Call) -> None:
    canned.failures = [unavailable() for _ in range(100_000)]
    with pytest.raises(ApiError) as told:
        call(url, "sessions", "GetSession", v1.GetSessionRequest(session_id="s"), timeout=0.2)
    assert told.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert len(canned.asked) > 1


@both
def test_every_detail_of_an_error_is_told(url: str, canned: Canned, call: Call) -> None:
    info = error_details_pb2.ErrorInfo(domain="gpushopper", reason="INVALID_FIELD", metadata={"fields": "disk_gb"})
    fields = error_details_pb2.BadRequest()
    fields.field_violations.add(field="disk_gb", description="-1 is out of range")
    fields.field_violations.add(field="target", description="required")
    canned.failures = [status(code_pb2.INVALID_ARGUMENT, "two fields are wrong", info, fields)]
    with pytest.raises(ApiError, match="INVALID_ARGUMENT INVALID_FIELD: two fields are wrong") as told:
        call(url, "sessions", "CreateSession", v1.CreateSessionRequest())
    error = told.value
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.metadata == {"fields": "disk_gb"}
    assert [(one.field, one.description) for one in error.violations] == [("disk_gb", "-1 is out of range"), ("target", "required")]
    assert not error.retryable

    foreign = error_details_pb2.ErrorInfo(domain="elsewhere.example", reason="NOPE")
    canned.failures = [status(code_pb2.NOT_FOUND, "not ours", foreign)]
    with pytest.raises(ApiError) as told:
        call(url, "sessions", "GetSession", v1.GetSessionRequest())
    assert told.value.reason == "", "a reason of somebody else is none of ours"


@both
def test_tls_trusts_the_ca_that_it_is_given(canned: Canned, tmp_path: Path, call: Call) -> None:
    ca = trustme.CA()
    mine = ca.issue_cert("localhost")
    pair = (mine.private_key_pem.bytes(), b"".join(one.bytes() for one in mine.cert_chain_pems))
    server, port = serve(canned, grpc.ssl_server_credentials([pair]))
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(path)
    request = v1.GetSessionRequest(session_id="s")
    answer = call(f"https://localhost:{port}", "sessions", "GetSession", request, ca_file=path, token="t0k")
    assert answer.session.session_id == "s"
    assert canned.tokens == ["Bearer t0k"]
    # A server that asks its callers for a certificate.
    strict, strict_port = serve(canned, grpc.ssl_server_credentials([pair], ca.cert_pem.bytes(), require_client_auth=True))
    own = ca.issue_cert("me@example.com")
    own.private_key_pem.write_to_path(tmp_path / "me.key")
    own.cert_chain_pems[0].write_to_path(tmp_path / "me.pem")
    certificate = (tmp_path / "me.pem", tmp_path / "me.key")
    strict_url = f"https://localhost:{strict_port}"
    assert call(strict_url, "sessions", "GetSession", request, ca_file=path, certificate=certificate).session.session_id == "s"
    with pytest.raises(ApiError):
        call(strict_url, "sessions", "GetSession", request, ca_file=path, timeout=0.3)
    strict.stop(None).wait()
    trustme.CA().cert_pem.write_to_path(path)
    with pytest.raises(ApiError):
        call(f"https://localhost:{port}", "sessions", "GetSession", request, ca_file=path, timeout=0.3)
    server.stop(None).wait()


def event(sequence: int, revision: int) -> v1.WatchSessionResponse:
    told = v1.SessionEvent(session_id="s", sequence=sequence, revision=revision)
    return v1.WatchSessionResponse(event=told, resume_token=f"t{revision}")


def snapshot(sequence: int, revision: int) -> list[v1.WatchSessionResponse]:
    return [
        v1.WatchSessionResponse(snapshot=v1.Session(session_id="s", sequence=sequence)),
        v1.WatchSessionResponse(snapshot_end=v1.SnapshotEnd(revision=revision), resume_token=f"t{revision}"),
    ]


def watch_blocking(url: str) -> list[Any]:
    with Client(url, backoff=QUICK) as client, client.watch_session("s") as watch:
        return [*watch, watch.resume_token]


def watch_asynchronous(url: str) -> list[Any]:
    async def play() -> list[Any]:
        async with aio.Client(url, backoff=QUICK) as client, client.watch_session("s") as watch:
            return [*[item async for item in watch], watch.resume_token]

    return asyncio.run(play())


@pytest.mark.parametrize("watch", [watch_blocking, watch_asynchronous])
def test_a_watch_goes_on_from_its_last_token_and_sees_gaps_and_repeats(url: str, canned: Canned, watch: Callable[[str], list[Any]]) -> None:
    compacted = error_details_pb2.ErrorInfo(domain="gpushopper", reason="WATCH_COMPACTED")
    canned.streams = [
        # Cut in the midst of a snapshot: it is taken from the start.
        [snapshot(3, 10)[0], unavailable()],
        [*snapshot(3, 10), event(4, 12), status(code_pb2.INTERNAL, "the connection broke")],
        # A repeat, and then a gap: asked for again from the last token.
        [event(4, 12), event(5, 15), event(7, 19)],
        [event(6, 17), v1.WatchSessionResponse(bookmark=v1.Bookmark(revision=18), resume_token="t18"), unavailable("SERVER_DRAINING")],
        [status(code_pb2.OUT_OF_RANGE, "too old", compacted)],
        [*snapshot(9, 30), event(10, 31)],
    ]
    *items, token = watch(url)
    told = [(item.reset, item.sessions[0].sequence) if isinstance(item, Snapshot) else item.sequence for item in items]
    assert told == [("", 3), 4, 5, 6, ("WATCH_COMPACTED", 9), 10]
    assert [request.resume_token for request in canned.asked] == ["", "", "t12", "t15", "t18", ""]
    assert token == "t31"

    unknown = error_details_pb2.ErrorInfo(domain="gpushopper", reason="SESSION_NOT_FOUND")
    canned.streams = [[status(code_pb2.NOT_FOUND, "no such session", unknown)]]
    with pytest.raises(ApiError, match="SESSION_NOT_FOUND"):
        watch(url)
    # A gap that stays is not hidden.
    canned.streams = [[*snapshot(1, 1), event(3, 3)], *[[event(3, 3)] for _ in range(9)]]
    with pytest.raises(ApiError, match="event 3 of session s came after event 1"):
        watch(url)


class Mute:
    """A way to a server on which connections can fall silent without an end, as when a cable is pulled."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.open: set[socket.socket] = set()
        self.silent: set[socket.socket] = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
                self.open.add(client)
                for one, other in ((client, server), (server, client)):
                    threading.Thread(target=self.pump, args=(one, other, client), daemon=True).start()

    def pump(self, one: socket.socket, other: socket.socket, name: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if name not in self.silent:
                    other.sendall(data)
        for socket_ in (one, other):
            with contextlib.suppress(OSError):
                socket_.shutdown(socket.SHUT_RDWR)
        one.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for one in self.open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@both
def test_a_connection_that_fell_silent_is_noticed(canned: Canned, call: Call) -> None:
    soon = {"grpc.keepalive_time_ms": 1000, "grpc.keepalive_timeout_ms": 500, "grpc.http2.ping_timeout_ms": 500}
    server, port = serve(canned)
    mute = Mute(port)
    request = v1.GetSessionRequest(session_id="s")
    canned.streams = [[*snapshot(1, 1), None], [event(2, 2)]]
    with Client(mute.url, backoff=QUICK, options=soon) as client, client.watch_session("s") as watch:
        assert isinstance(next(watch), Snapshot)
        mute.silent |= mute.open
        assert client.sessions.GetSession(request, timeout=60).session.session_id == "s"
        told = next(watch)
        assert isinstance(told, v1.SessionEvent) and told.sequence == 2
    assert call(mute.url, "sessions", "GetSession", request, options=soon).session.session_id == "s"
    mute.close()
    server.stop(None).wait()


def test_money_is_exact_and_never_rounded() -> None:
    for nanos in (0, 1, -1, 999_999_999, 10**9, -(10**9), 2**62, -(2**62), 123_456_789_012_345_678):
        amount = Decimal(nanos) / 10**9
        wire = from_decimal(amount)
        assert wire.units * 10**9 + wire.nanos == nanos
        assert wire.units * wire.nanos >= 0, "both have one sign"
        assert to_decimal(wire) == amount
    assert money.text(Decimal("0.000000001")) == "0.000000001"
    assert money.text(Decimal("250.00")) == "250"
    assert (from_decimal("0.36").nanos, from_decimal(2).units) == (360_000_000, 2)
    for wrong in ("0.0000000001", "a dollar", "NaN", "Infinity", str(2**63), "1e300"):
        with pytest.raises(ValueError, match=r"amount|beyond"):
            from_decimal(wrong)
    with pytest.raises(TypeError, match="float"):
        from_decimal(0.1)  # type: ignore[arg-type]


def test_a_key_is_for_its_owner_and_never_written_over(tmp_path: Path) -> None:
    path = save_key(tmp_path / "key.pem", "SECRET")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        save_key(path, "OTHER")
    assert path.read_text() == "SECRET\n"
    with pytest.raises(ValueError, match="no private key"):
        save_key(tmp_path / "none.pem", "")
    assert not (tmp_path / "none.pem").exists()


@pytest.mark.parametrize("wrong", ["localhost:8080", "ftp://host", "http://", "http://host/path"])
def test_a_wrong_address_is_told_at_once(wrong: str) -> None:
    with pytest.raises(ValueError, match="http://HOST:PORT"):
        Client(wrong)
