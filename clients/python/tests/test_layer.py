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

from gpushopper import ApiError, Backoff, Client, SessionEnded, Snapshot, aio, from_decimal, money, save_key, to_decimal, v1
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
        self.state = v1.Session.STATE_RUNNING
        self.waits: list[Any] = []

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
        return v1.GetSessionResponse(session=v1.Session(session_id="s", state=self.state))

    def WaitSession(self, request: Any, context: Any) -> v1.WaitSessionResponse:
        self.note(request, context)
        state = self.waits.pop(0)
        return v1.WaitSessionResponse(session=v1.Session(session_id="s", state=state), reached=state in request.until)

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
        call(url, "sessions", "GetSession", v1.GetSessionRequest(session_id="s"), timeout=1)
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


STOPPED = v1.Session.STATE_STOPPED


def event(sequence: int, revision: int, to_state: v1.Session.State.ValueType = v1.Session.STATE_RUNNING) -> v1.WatchSessionResponse:
    told = v1.SessionEvent(session_id="s", sequence=sequence, revision=revision, to_state=to_state)
    return v1.WatchSessionResponse(event=told, resume_token=f"t{revision}")


def snapshot(sequence: int, revision: int) -> list[v1.WatchSessionResponse]:
    return [
        v1.WatchSessionResponse(snapshot=v1.Session(session_id="s", sequence=sequence)),
        v1.WatchSessionResponse(snapshot_end=v1.SnapshotEnd(revision=revision), resume_token=f"t{revision}"),
    ]


def watch_blocking(url: str, into: list[Any] | None = None, **options: Any) -> list[Any]:
    told = [] if into is None else into
    with Client(url, backoff=QUICK) as client, client.watch_session("s", **options) as watch:
        for item in watch:
            told.append(item)
        return [*told, watch.resume_token]


def watch_asynchronous(url: str, into: list[Any] | None = None, **options: Any) -> list[Any]:
    told = [] if into is None else into

    async def play() -> list[Any]:
        async with aio.Client(url, backoff=QUICK) as client, client.watch_session("s", **options) as watch:
            async for item in watch:
                told.append(item)
            return [*told, watch.resume_token]

    return asyncio.run(play())


both_watch = pytest.mark.parametrize("watch", [watch_blocking, watch_asynchronous])
WatchAll = Callable[..., list[Any]]


@both_watch
def test_a_watch_goes_on_from_its_last_token_and_sees_gaps_and_repeats(url: str, canned: Canned, watch: WatchAll) -> None:
    compacted = error_details_pb2.ErrorInfo(domain="gpushopper", reason="WATCH_COMPACTED")
    canned.streams = [
        # Cut in the midst of a snapshot: it is taken from the start.
        [snapshot(3, 10)[0], unavailable()],
        [*snapshot(3, 10), event(4, 12), status(code_pb2.INTERNAL, "the connection broke")],
        # A repeat, and then a gap: asked for again from the last token.
        [event(4, 12), event(5, 15), event(7, 19)],
        [event(6, 17), v1.WatchSessionResponse(bookmark=v1.Bookmark(revision=18), resume_token="t18"), unavailable("SERVER_DRAINING")],
        [status(code_pb2.OUT_OF_RANGE, "too old", compacted)],
        # An end in order is not the end of a session that goes on.
        [*snapshot(9, 30)],
        [event(10, 31, STOPPED)],
    ]
    *items, token = watch(url)
    told = [(item.reset, item.sessions[0].sequence) if isinstance(item, Snapshot) else item.sequence for item in items]
    assert told == [("", 3), 4, 5, 6, ("WATCH_COMPACTED", 9), 10]
    assert [request.resume_token for request in canned.asked] == ["", "", "t12", "t15", "t18", "", "t30"]
    assert token == "t31"

    unknown = error_details_pb2.ErrorInfo(domain="gpushopper", reason="SESSION_NOT_FOUND")
    canned.streams = [[status(code_pb2.NOT_FOUND, "no such session", unknown)]]
    with pytest.raises(ApiError, match="SESSION_NOT_FOUND"):
        watch(url)
    # A gap that stays is not hidden.
    canned.streams = [[*snapshot(1, 1), event(3, 3)], *[[event(3, 3)] for _ in range(9)]]
    with pytest.raises(ApiError, match="event 3 of session s came after event 1"):
        watch(url)


@both_watch
def test_a_silent_stream_is_lost_and_opened_again_from_its_token(url: str, canned: Canned, watch: WatchAll) -> None:
    canned.streams = [[*snapshot(1, 1), None], [event(2, 2, STOPPED)]]
    lost: list[str] = []
    *items, _ = watch(url, bookmark=0.01, on_lost=lambda error, wait: lost.append(str(error)))
    assert isinstance(items[0], Snapshot) and items[1].sequence == 2
    assert lost == ["UNAVAILABLE: not a word for 5.02 s: the connection is lost"]
    assert [request.resume_token for request in canned.asked] == ["", "t1"]
    assert canned.asked[0].bookmark_interval.ToMilliseconds() == 10


@both_watch
def test_a_watch_goes_on_after_what_breaks_connections_and_after_what_will_pass(url: str, canned: Canned, watch: WatchAll) -> None:
    broken = (code_pb2.INTERNAL, code_pb2.UNKNOWN, code_pb2.CANCELLED, code_pb2.ABORTED, code_pb2.DEADLINE_EXCEEDED, code_pb2.DATA_LOSS)
    limited = error_details_pb2.ErrorInfo(domain="gpushopper", reason="RATE_LIMITED")
    soon = error_details_pb2.RetryInfo()
    soon.retry_delay.FromMilliseconds(2)
    canned.streams = [
        *[[status(code, "no word from us")] for code in broken],
        [status(code_pb2.RESOURCE_EXHAUSTED, "slower", limited, soon)],
        snapshot(1, 1),
        [event(2, 2, STOPPED)],
    ]
    lost: list[float] = []
    *items, _ = watch(url, on_lost=lambda error, wait: lost.append(wait))
    assert len(items) == 2 and len(lost) == 8 and min(lost) > 0, "also after an end in order there is a wait"
    for code in broken:
        canned.streams = [[status(code, "ours", error_details_pb2.ErrorInfo(domain="gpushopper", reason="INTERNAL"))]]
        with pytest.raises(ApiError, match="INTERNAL: ours"):
            watch(url)
    canned.streams = [[status(code_pb2.RESOURCE_EXHAUSTED, "too many", limited)]]
    with pytest.raises(ApiError, match="too many"):
        watch(url)


@both_watch
def test_only_what_happens_next_is_told_from_now_and_nothing_is_lost_before_the_first_event(
    url: str, canned: Canned, watch: WatchAll
) -> None:
    compacted = error_details_pb2.ErrorInfo(domain="gpushopper", reason="WATCH_COMPACTED")
    canned.streams = [
        [*snapshot(3, 10), unavailable()],
        [event(4, 12), status(code_pb2.OUT_OF_RANGE, "too old", compacted)],
        [*snapshot(9, 30), event(10, 31, STOPPED)],
    ]
    *items, token = watch(url, from_now=True)
    assert [one.reset if isinstance(one, Snapshot) else one.sequence for one in items] == [4, "WATCH_COMPACTED", 10]
    assert [request.resume_token for request in canned.asked] == ["", "t10", ""]
    assert token == "t31"


@both_watch
def test_a_token_of_after_the_end_ends_the_watch_and_one_of_before_does_not(url: str, canned: Canned, watch: WatchAll) -> None:
    canned.streams = [[], [event(5, 7, STOPPED)]]
    *items, _ = watch(url, resume_token="t6")
    assert [one.sequence for one in items] == [5], "it was not the end: the session went on"
    canned.state, canned.streams = STOPPED, [[]]
    assert watch(url, resume_token="t7") == ["t7"]


@both_watch
def test_a_watch_whose_session_has_ended_does_not_wait_for_a_server_that_is_gone(url: str, canned: Canned, watch: WatchAll) -> None:
    # What may follow the end is looked for, and not for ever.
    canned.streams = [[event(5, 7, STOPPED), unavailable()], [event(6, 8, STOPPED), unavailable()], *[[unavailable()] for _ in range(9)]]
    *items, token = watch(url, resume_token="t6")
    assert [one.sequence for one in items] == [5, 6] and token == "t8"
    assert [request.resume_token for request in canned.asked] == ["t6", "t7", "t8", "t8", "t8"]
    replaced = status(code_pb2.OUT_OF_RANGE, "another one", error_details_pb2.ErrorInfo(domain="gpushopper", reason="WATCH_STORE_REPLACED"))
    canned.streams = [[event(5, 7, STOPPED), unavailable()], [replaced]]
    *items, _ = watch(url, resume_token="t6")
    assert [one.sequence for one in items] == [5]
    canned.streams = [[event(5, 7, STOPPED), unavailable()]]
    *items, _ = watch(url, resume_token="t6", give_up=0.0)
    assert [one.sequence for one in items] == [5]


@both_watch
def test_a_session_that_a_replaced_database_does_not_know_is_told_as_a_reset_and_then_as_an_error(
    url: str, canned: Canned, watch: WatchAll
) -> None:
    unknown = status(code_pb2.NOT_FOUND, "no such session", error_details_pb2.ErrorInfo(domain="gpushopper", reason="SESSION_NOT_FOUND"))
    replaced = status(code_pb2.OUT_OF_RANGE, "another one", error_details_pb2.ErrorInfo(domain="gpushopper", reason="WATCH_STORE_REPLACED"))
    canned.streams = [[event(5, 7), unavailable()], [replaced], [unknown], [unknown]]
    told: list[Any] = []
    with pytest.raises(ApiError, match="SESSION_NOT_FOUND"):
        watch(url, resume_token="t6", into=told)
    assert told[0].sequence == 5
    assert [(one.reset, one.sessions) for one in told[1:]] == [("WATCH_STORE_REPLACED", ())]


@both_watch
def test_a_watch_gives_up_when_it_is_told_to(url: str, canned: Canned, watch: WatchAll) -> None:
    canned.streams = [snapshot(1, 1), *[[unavailable()] for _ in range(10_000)]]
    with pytest.raises(ApiError, match="RESTARTING: come again") as told:
        watch(url, give_up=0.2)
    assert told.value.__context__ is None, "a traceback without the insides of gRPC"


@both
def test_a_call_fails_without_the_insides_of_grpc(url: str, canned: Canned, call: Call) -> None:
    canned.failures = [status(code_pb2.NOT_FOUND, "no such session")]
    with pytest.raises(ApiError) as told:
        call(url, "sessions", "GetSession", v1.GetSessionRequest(session_id="s"))
    assert told.value.__context__ is None and told.value.__cause__ is None


def wait_blocking(url: str, method: str, **options: Any) -> Any:
    with Client(url, backoff=QUICK) as client:
        return getattr(client, method)("s", **options)


def wait_asynchronous(url: str, method: str, **options: Any) -> Any:
    async def play() -> Any:
        async with aio.Client(url, backoff=QUICK) as client:
            return await getattr(client, method)("s", **options)

    return asyncio.run(play())


@pytest.mark.parametrize("wait", [wait_blocking, wait_asynchronous])
def test_a_wait_ends_with_what_is_waited_for_or_says_why_not(url: str, canned: Canned, wait: Callable[..., Any]) -> None:
    canned.waits = [v1.Session.STATE_PROVISIONING, v1.Session.STATE_RUNNING]
    canned.failures = [unavailable()]
    assert wait(url, "wait_running").state == v1.Session.STATE_RUNNING
    assert canned.asked[0].timeout.seconds in (29, 30)
    canned.waits = [v1.Session.STATE_STOPPING]
    with pytest.raises(SessionEnded):
        wait(url, "wait_running")
    canned.waits = [v1.Session.STATE_STOPPING, v1.Session.STATE_FAILED]
    assert wait(url, "wait_ended", timeout=None).state == v1.Session.STATE_FAILED
    canned.waits = [v1.Session.STATE_PENDING]
    with pytest.raises(TimeoutError, match=r"session s is still STATE_PENDING after 0 s"):
        wait(url, "wait_running", timeout=0)
    canned.failures = [unavailable() for _ in range(10_000)]
    with pytest.raises(ApiError, match="come again"):
        wait(url, "wait_running", timeout=0.2)


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
    soon = {"grpc.keepalive_time_ms": 1000, "grpc.keepalive_timeout_ms": 2000, "grpc.http2.ping_timeout_ms": 2000}
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
    with pytest.raises(ValueError, match="EUR is no currency of this service; allowed: USD"):
        to_decimal(v1.Money(currency_code="EUR", units=1))
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


@pytest.mark.parametrize(
    "wrong",
    ["ftp://host", "http://", "http://host/path", "http://host?query=1", "http://host#part", "http://host:port", "https://me:s3cret@host"],
)
def test_a_wrong_address_is_told_at_once(wrong: str) -> None:
    with pytest.raises(ValueError, match="allowed: http://HOST:PORT, https://HOST:PORT or HOST:PORT") as told:
        Client(wrong)
    assert "s3cret" not in str(told.value)


@both
def test_an_address_needs_no_scheme(url: str, call: Call) -> None:
    assert call(url.removeprefix("http://"), "sessions", "GetSession", v1.GetSessionRequest(session_id="s")).session.session_id == "s"


@both
def test_what_is_not_given_comes_from_the_environment(
    url: str, canned: Canned, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(" from-file\n")
    monkeypatch.setenv("GPU_SHOPPER_URL", url)
    monkeypatch.setenv("GPU_SHOPPER_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("GPU_SHOPPER_CA_CERT", "")
    request = v1.GetSessionRequest(session_id="s")
    call("", "sessions", "GetSession", request)
    monkeypatch.setenv("GPU_SHOPPER_TOKEN", "from-variable")
    call("", "sessions", "GetSession", request)
    call("", "sessions", "GetSession", request, token="given")
    call("", "sessions", "GetSession", request, token="")
    assert canned.tokens == ["Bearer from-file", "Bearer from-variable", "Bearer given"]
    monkeypatch.setenv("GPU_SHOPPER_CLIENT_CERT", "me.pem")
    with pytest.raises(ValueError, match="GPU_SHOPPER_CLIENT_KEY"):
        Client()
