"""The scheduler of `examples/fleet.py`, run as its users run it, while everything goes wrong."""

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

from gpushopper import Client, to_decimal, v1
from world import World

PATIENCE = 120.0
State = v1.Session.State
ALIVE = (State.STATE_PENDING, State.STATE_PROVISIONING, State.STATE_RUNNING)
ENDED = (State.STATE_STOPPED, State.STATE_FAILED)


class Scheduler:
    """The program as a child process."""

    def __init__(self, world: World, folder: Path, name: str, *arguments: str) -> None:
        self.log = folder / f"{name}.log"
        key = folder / "key.pub"
        key.write_text(json.loads((Path(__file__).parents[2] / "conformance" / "scenario.json").read_text())["public_key"])
        program = Path(__file__).parents[1] / "examples" / "fleet.py"
        source = str(Path(__file__).parents[1] / "src")
        env = os.environ | {"GPU_SHOPPER_URL": world.proxy.url, "PYTHONPATH": source}
        command = [sys.executable, str(program), "--name", name, "--public-key", str(key), *arguments]
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
