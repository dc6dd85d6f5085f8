"""The scheduler of `examples/fleet.py`, run as its users run it, while everything goes wrong."""

import asyncio
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict
from grpc import StatusCode

from gpushopper import ApiError, Client, from_decimal, to_decimal, v1
from world import World

PATIENCE = 300.0
"""Seconds; a bound for what hangs, not for what is slow."""
FLEET = Path(__file__).parents[1] / "examples" / "fleet.py"
State = v1.Session.State
ALIVE = (State.STATE_PENDING, State.STATE_PROVISIONING, State.STATE_RUNNING)
ENDED = (State.STATE_STOPPED, State.STATE_FAILED)


fleet = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("fleet", FLEET))  # type: ignore[arg-type]
sys.modules["fleet"] = fleet
spec.loader.exec_module(fleet)  # type: ignore[union-attr]


class Scheduler:
    """The program as a child process."""

    def __init__(self, world: World, folder: Path, name: str, *arguments: str) -> None:
        self.log = folder / f"{name}.log"
        key = folder / "key.pub"
        key.write_text(json.loads((Path(__file__).parents[2] / "conformance" / "scenario.json").read_text())["public_key"])
        source = str(Path(__file__).parents[1] / "src")
        env = os.environ | {"GPU_SHOPPER_URL": world.proxy.url, "PYTHONPATH": source}
        command = [sys.executable, str(FLEET), "--name", name, "--public-key", str(key), *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    with Client(world.direct) as one:
        yield one


def sessions(client: Client, fleet: str) -> list[v1.Session]:
    filter = v1.SessionFilter(labels={"fleet": fleet})
    return list(client.list_sessions(v1.ListSessionsRequest(filter=filter)))


def until(what: str, holds: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"it never came to: {what}\n{log.read_text()}"
        time.sleep(0.1)


def running(client: Client, fleet: str) -> list[v1.Session]:
    return [one for one in sessions(client, fleet) if one.state == State.STATE_RUNNING]


def preempt(world: World, session: v1.Session) -> None:
    truth = json.loads(world.fetch(f"{world.env['VASTAI_BASE_URL']}/_sim/truth"))["machines"]
    native_id = next(one["native_id"] for one in truth if one["alive"] and session.session_id in one["label"])
    world.fetch(f"{world.env['VASTAI_BASE_URL']}/_sim/preempt/{native_id}", "POST")


def most_at_once(client: Client, fleet: str) -> tuple[int, Decimal]:
    """By the log: how many sessions were alive at the same time, and what those that ran cost per hour together."""
    events = [event for one in sessions(client, fleet) for event in client.session_events(one.session_id)]
    alive: set[str] = set()
    prices: dict[str, Decimal] = {}
    most, dearest = 0, Decimal(0)
    for event in sorted(events, key=lambda one: one.revision):
        (alive.add if event.to_state in ALIVE else alive.discard)(event.session_id)
        if event.to_state in (State.STATE_RUNNING, State.STATE_STOPPING):
            prices[event.session_id] = to_decimal(event.session.price.total_per_hour)
        elif event.to_state in ENDED:
            prices.pop(event.session_id, None)
        most, dearest = max(most, len(alive)), max(dearest, sum(prices.values(), Decimal(0)))
    return most, dearest


def test_machines_are_kept_over_preemptions_cuts_and_kills(world: World, client: Client, tmp_path: Path) -> None:
    terms = ("--wanted", "3", "--max-price", "0.50", "--per-hour", "3", "--total", "20", "--interruptible")
    world.do("storm?cuts=40")
    fleet = Scheduler(world, tmp_path, "kept", *terms)
    until("three running", lambda: len(running(client, "kept")) == 3, fleet.log)

    first = running(client, "kept")
    preempt(world, first[0])
    preempt(world, first[1])
    world.do("restart")
    client.close()
    client = Client(world.direct)
    lost = {first[0].session_id, first[1].session_id}
    until(
        "three running again, without the two that were taken away",
        lambda: len(found := running(client, "kept")) == 3 and not lost & {one.session_id for one in found},
        fleet.log,
    )

    # The scheduler dies without a word; another one finds everything and changes nothing.
    before = {one.session_id for one in running(client, "kept")}
    fleet.end(signal.SIGKILL)
    fleet = Scheduler(world, tmp_path, "kept", *terms)
    until("it has looked", lambda: "3 alive" in fleet.log.read_text(), fleet.log)
    preempt(world, running(client, "kept")[0])
    until("three again", lambda: len(running(client, "kept")) == 3 and len(sessions(client, "kept")) == 6, fleet.log)
    assert len(before & {one.session_id for one in running(client, "kept")}) == 2

    assert fleet.end(signal.SIGTERM) == 0, fleet.log.read_text()
    all_of_it = sessions(client, "kept")
    assert [one.state for one in all_of_it if one.state not in ENDED] == []
    assert sorted((one.labels["slot"], one.labels["generation"]) for one in all_of_it)[0] == ("0", "1")
    assert len({(one.labels["slot"], one.labels["generation"]) for one in all_of_it}) == 6
    reasons = sorted(v1.EndReason.Name(one.end_reason) for one in all_of_it)
    assert reasons == ["END_REASON_COMPLETED"] * 3 + ["END_REASON_PREEMPTED"] * 3, [MessageToDict(one) for one in all_of_it]
    most, dearest = most_at_once(client, "kept")
    assert most == 3, "never more than wanted"
    assert dearest <= 3
    truth = json.loads(world.fetch(f"{world.env['VASTAI_BASE_URL']}/_sim/truth"))["machines"]
    assert [one["label"] for one in truth if one["alive"]] == []
    cost = re.search(r"all gone; the fleet has cost \$(\S+)", fleet.log.read_text())
    assert cost and Decimal(cost[1]) == sum((to_decimal(one.cost.cost) for one in all_of_it), Decimal(0))
    client.close()


def test_spending_limits_hold(world: World, tmp_path: Path) -> None:
    with Client(world.direct) as client:
        # Per hour: what runs costs much less than 0.60, and one more machine is allowed for as long as it could cost 0.60 in all.
        hourly = Scheduler(world, tmp_path, "hourly", "--wanted", "4", "--max-price", "0.40", "--per-hour", "0.60")
        until("the limit is told", lambda: "/h is the limit" in hourly.log.read_text(), hourly.log)
        # In all: each could cost 0.40 times 2; a third one does not fit.
        total = Scheduler(
            world,
            tmp_path,
            "total",
            "--wanted",
            "4",
            "--max-price",
            "0.40",
            "--hours",
            "2",
            "--per-hour",
            "9",
            "--total",
            "2",
            "--on-exit",
            "leave",
        )
        until("the limit is told", lambda: "$2 is the limit" in total.log.read_text(), total.log)
        until("two running", lambda: len(running(client, "total")) == 2, total.log)
        assert total.end(signal.SIGTERM) == 0
        left = sessions(client, "total")
        assert [State.Name(one.state) for one in left] == ["STATE_RUNNING"] * 2, "left by choice"
        assert sum((to_decimal(one.spec.max_total_cost) for one in left), Decimal(0)) <= 2
        for one in left:
            client.sessions.CompleteSession(v1.CompleteSessionRequest(session_id=one.session_id))
        assert hourly.end(signal.SIGTERM) == 0, hourly.log.read_text()
        most, dearest = most_at_once(client, "hourly")
        assert 1 <= most < 4
        assert dearest <= Decimal("0.60")


def test_another_plan_ends_what_is_too_much_and_replaces_another_gpu(world: World, tmp_path: Path) -> None:
    with Client(world.direct) as client:
        terms = ("--max-price", "0.60", "--per-hour", "3", "--hours", "0.3333", "--on-exit", "leave")
        one = Scheduler(world, tmp_path, "planned", "--wanted", "2", *terms)
        until("two running", lambda: len(running(client, "planned")) == 2, one.log)
        assert one.end(signal.SIGTERM) == 0, one.log.read_text()
        assert {session.spec.reservation.seconds for session in running(client, "planned")} == {1199}
        first = {session.session_id: session for session in running(client, "planned")}
        limit = sum((to_decimal(session.price.total_per_hour) for session in first.values()), Decimal("-0.001")).normalize()
        one = Scheduler(world, tmp_path, "planned", "--wanted", "2", *terms, "--per-hour", str(limit))
        until("within the limit", lambda: [it.labels["slot"] for it in sessions(client, "planned") if it.state in ALIVE] == ["0"], one.log)
        assert one.end(signal.SIGTERM) == 0, one.log.read_text()
        assert f"/h, and ${limit}/h is the limit" in one.log.read_text()
        assert set(first) == {session.session_id for session in sessions(client, "planned")}, "the other one is kept"
        one = Scheduler(world, tmp_path, "planned", "--wanted", "1", "--gpu", "RTX 3090", *terms)

        def replaced() -> bool:
            return [session.gpu_model for session in sessions(client, "planned") if session.state in ALIVE] == ["RTX 3090"]

        until("one machine of the other kind", lambda: replaced() and len(running(client, "planned")) == 1, one.log)
        assert one.end(signal.SIGTERM) == 0, one.log.read_text()
        one = Scheduler(world, tmp_path, "planned", "--wanted", "0", *terms)
        assert one.process.wait(timeout=PATIENCE) == 0, one.log.read_text()
        assert not [session for session in sessions(client, "planned") if session.state in ALIVE]


def test_it_stops_also_while_the_server_is_away(world: World, tmp_path: Path) -> None:
    world.kill()
    try:
        one = Scheduler(world, tmp_path, "away")
        until("it says that it waits", lambda: "waiting for the server" in one.log.read_text(), one.log)
        assert one.end(signal.SIGTERM) == 1
        assert "machines that go on until their limits: none that is known" in one.log.read_text()
        assert "Traceback" not in one.log.read_text()
    finally:
        world.start()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (("--max-price", "0.12345678901"), "at most 9 digits"),
        (("--hours", "0"), "a number of hours above 0"),
        (("--wanted", "-1"), "'-1': a number of machines, 0 or more"),
        (("--public-key", "/nowhere/key.pub"), "--public-key"),
        (("--max-price", "-1"), "error: INVALID_ARGUMENT INVALID_FIELD"),
    ],
)
def test_what_can_never_work_ends_it_with_one_message(world: World, tmp_path: Path, wrong: tuple[str, str], told: str) -> None:
    one = Scheduler(world, tmp_path, "wrong", *wrong)
    assert one.process.wait(timeout=PATIENCE) != 0
    assert told in one.log.read_text()
    assert "Traceback" not in one.log.read_text()


class Refusing:
    """A client whose creates are answered by sessions that are about to fail, or by errors."""

    def __init__(self) -> None:
        self.sessions = self
        self.made = 0
        self.error: ApiError | None = None

    async def CreateSession(self, request: v1.CreateSessionRequest) -> v1.CreateSessionResponse:
        if self.error:
            raise self.error
        assert request.requirements.filter.gpu_count == 1, "no machine of many GPUs for the price of one"
        self.made += 1
        session = v1.Session(session_id=f"s{self.made}", state=State.STATE_PENDING, labels=request.labels, revision=self.made * 10)
        session.spec.requirements.CopyFrom(request.requirements)
        return v1.CreateSessionResponse(session=session)

    async def CompleteSession(self, request: v1.CompleteSessionRequest) -> v1.CompleteSessionResponse:
        return v1.CompleteSessionResponse(session=v1.Session(session_id=request.session_id, state=State.STATE_STOPPING, revision=1000))


def rented(slot: int, per_hour: str, accepts: str = "0.5", state: State.ValueType = State.STATE_RUNNING, spent: str = "0.1") -> v1.Session:
    """A machine that may cost twice as much in all as it accepts per hour."""
    session = v1.Session(session_id=f"of {slot}", state=state, labels={"slot": str(slot), "generation": "1"}, revision=1)
    session.spec.requirements.filter.gpu_models.append("RTX 4090")
    session.spec.max_price_per_hour.CopyFrom(from_decimal(accepts))
    session.spec.max_total_cost.CopyFrom(from_decimal(Decimal(accepts) * 2))
    session.price.total_per_hour.CopyFrom(from_decimal(per_hour))
    session.cost.high.CopyFrom(from_decimal(spent))
    return session


PENDING, STOPPING = State.STATE_PROVISIONING, State.STATE_STOPPING


@pytest.mark.parametrize(
    ("max_price", "per_hour", "total", "there", "why"),
    [
        ("0.5", "1.5", "9", [rented(0, "0.4"), rented(1, "0.4"), rented(2, "0.4")], {}),
        ("0.3", "0.8", "9", [rented(0, "0.3"), rented(1, "0.3"), rented(2, "0.3")], {2: "all could cost $0.9/h, and $0.8/h is the limit"}),
        (
            "0.3",
            "0.5",
            "9",
            [rented(2, "0.3"), rented(0, "0.3"), rented(1, "0.3")],
            {2: "all could cost $0.9/h, and $0.5/h is the limit", 1: "all could cost $0.6/h, and $0.5/h is the limit"},
        ),
        # What is ending goes by itself, and leads to no further end.
        ("0.3", "0.7", "9", [rented(0, "0.3"), rented(1, "0.3"), rented(2, "0.3", state=STOPPING)], {}),
        # What could cost a dollar each, and has cost a tenth of it.
        (
            "0.5",
            "9",
            "2.1",
            [rented(0, "0.4"), rented(1, "0.4"), rented(2, "0.4")],
            {2: "all could cost $3 in the end, and $2.1 is the limit"},
        ),
        (
            "0.5",
            "9",
            "1",
            [rented(0, "0.4"), rented(1, "0.4")],
            {1: "all could cost $2 in the end, and $1 is the limit", 0: "all could cost $1.1 in the end, and $1 is the limit"},
        ),
        # One that is too dear is replaced, and what is cheap enough stays, whatever it would have accepted.
        ("0.3", "9", "9", [rented(0, "0.4"), rented(1, "0.3")], {0: "it could cost $0.4/h, and $0.3/h is the limit of one"}),
        # What does not run yet may become as dear as it accepts, not as the plan of today does.
        ("0.3", "9", "9", [rented(0, "0.2", state=PENDING)], {0: "it could cost $0.5/h, and $0.3/h is the limit of one"}),
        # A price above what it accepts is no reason to rent another one again and again.
        ("0.5", "9", "9", [rented(0, "0.6")], {}),
        # The one that does not fit makes room for the others.
        (
            "0.3",
            "0.6",
            "9",
            [rented(0, "0.4"), rented(1, "0.3"), rented(2, "0.3")],
            {0: "it could cost $0.4/h, and $0.3/h is the limit of one"},
        ),
    ],
)
def test_what_is_above_the_limits_of_another_plan_is_completed_with_its_reason(
    capsys: pytest.CaptureFixture[str], max_price: str, per_hour: str, total: str, there: list[v1.Session], why: dict[int, str]
) -> None:
    plan = fleet.Plan("f", 3, "RTX 4090", Decimal(max_price), Decimal(per_hour), Decimal(total), Decimal(2), "key")
    one = fleet.Fleet(Refusing(), plan)
    one.known = {session.session_id: session for session in there}
    asyncio.run(one.trim(asyncio.Event()))
    lines = [line for line in capsys.readouterr().out.splitlines() if "not wanted" in line]
    assert lines == [f"slot {slot}: of {slot} is not wanted any more: {reason}" for slot, reason in why.items()]
    assert {session_id for session_id, session in one.known.items() if session.revision == 1000} == {f"of {slot}" for slot in why}


def test_what_does_not_run_yet_counts_with_the_price_that_it_was_created_to_accept() -> None:
    one = fleet.Fleet(Refusing(), fleet.Plan("f", 3, "RTX 4090", Decimal("0.3"), Decimal("0.7"), Decimal(9), Decimal(2), "key"))
    one.known = {"of 0": rented(0, "0.2", state=PENDING)}
    with pytest.raises(fleet.OverLimit, match=r"could cost \$0\.8/h in all"):
        one.request("1", 1)
    one.known = {"of 0": rented(0, "0.2", accepts="0.1", state=PENDING)}
    one.request("1", 1)


def test_the_server_is_away_while_the_watch_says_so_and_not_until_the_next_event(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1000.0]
    monkeypatch.setattr(fleet.time, "monotonic", lambda: now[0])
    one = fleet.Fleet(Refusing(), fleet.Plan("f", 1, "RTX 4090", Decimal("0.5"), Decimal(1), Decimal(100), Decimal(1), "key"))
    gone = ApiError(StatusCode.UNAVAILABLE, "gone")
    for wait in (0.1, 4.0, 5.0):
        one.lost(gone, wait)
        now[0] += wait + 1
        assert one.away
    assert capsys.readouterr().out == "waiting for the server: UNAVAILABLE: gone\n", "said once"
    now[0] += fleet.LOST_SECONDS
    assert not one.away, "it is connected again, though nothing has happened yet"


def test_the_pause_grows_with_each_session_that_never_ran_and_is_as_long_as_the_server_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(fleet.time, "monotonic", lambda: now[0])
    client, stop = Refusing(), asyncio.Event()
    one = fleet.Fleet(client, fleet.Plan("f", 1, "RTX 4090", Decimal("0.5"), Decimal(1), Decimal(100), Decimal(1), "key"))

    async def play() -> None:
        pauses = []
        for number in range(1, 8):
            await one.adjust(stop)
            assert client.made == number
            failed = v1.Session(session_id=f"s{number}", state=State.STATE_FAILED, revision=number * 10 + 1)
            failed.labels.update({"slot": "0", "generation": str(number)})
            one.learn(failed)
            pauses.append(one.retry_at - now[0])
            await one.adjust(stop)
            assert client.made == number, "nothing is rented in the pause"
            now[0] = one.retry_at
        assert pauses == [20, 40, 80, 160, 320, 600, 600]

        client.error = ApiError(StatusCode.RESOURCE_EXHAUSTED, "none", reason="NO_CAPACITY", retry_after=33)
        await one.adjust(stop)
        assert one.retry_at - now[0] == 33
        now[0] = one.retry_at
        client.error = ApiError(StatusCode.NOT_FOUND, "not yours", reason="CONSUMER_NOT_FOUND")
        with pytest.raises(ApiError, match="CONSUMER_NOT_FOUND"):
            await one.adjust(stop)
        client.error = None
        stop.set()
        await one.adjust(stop)
        assert client.made == 7, "told to stop, it rents nothing more"

    asyncio.run(play())
