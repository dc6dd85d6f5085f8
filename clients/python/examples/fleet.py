"""Keeps a number of machines alive within a spending limit, reacting to the stream of events only. Copy it.

Each machine has a slot, 0 to N-1, and each further machine of a slot a higher generation. Both are in its labels and in the
`request_id` of its create: so a create whose answer was lost, by a cut or by an end of this program, is found again and
never made twice. Nothing is kept here that the server does not know: kill this program and start it again at any time.

The server itself ends a session at its `max_total_cost`, so the total limit holds even while nobody runs this.
"""

import argparse
import asyncio
import signal
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from gpushopper import ApiError, Snapshot, WatchItem, aio, from_decimal, to_decimal, v1

State = v1.Session.State
ALIVE = (State.STATE_PENDING, State.STATE_PROVISIONING, State.STATE_RUNNING)
ENDED = (State.STATE_STOPPED, State.STATE_FAILED)
RETRY_SECONDS = 20.0
"""After a create that failed: nothing to rent, or the server was away for long."""


@dataclass(frozen=True)
class Plan:
    """What is wanted, and what it may cost."""

    name: str
    """The fleet's name; its sessions carry it as the label `fleet`."""
    wanted: int
    """So many machines."""
    gpu: str
    """Of this GPU model."""
    max_price: Decimal
    """Dollars per hour for one machine, at most."""
    per_hour: Decimal
    """Dollars per hour for all of them, those that are just ending included."""
    total: Decimal
    """Dollars for everything that this fleet ever rents."""
    hours: Decimal
    """How long each machine is rented before it is replaced."""
    public_key: str
    """Who may log in."""
    interruptible: bool = False
    """Rented by bids: cheaper, and taken away by whoever bids more."""


class OverLimit(Exception):
    """One more machine would break a spending limit."""


class Fleet:
    """The sessions of one plan."""

    def __init__(self, client: aio.Client, plan: Plan) -> None:
        """Knows nothing until the stream's snapshot comes."""
        self.client = client
        self.plan = plan
        self.known: dict[str, v1.Session] = {}
        self.complete = False
        self.retry_at = 0.0
        self.told = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Keeps the machines alive until `stop` is set."""
        stopping = asyncio.ensure_future(stop.wait())
        filter = v1.SessionFilter(labels={"fleet": self.plan.name})
        # Ended sessions are asked for as well: what they cost counts, and their generations are taken.
        async with self.client.watch_sessions(filter, ended_since=datetime.fromtimestamp(1, timezone.utc)) as watch:
            item = asyncio.ensure_future(anext(watch))
            try:
                while not stop.is_set():
                    wait = self.retry_at - time.monotonic() if self.retry_at else None
                    await asyncio.wait({item, stopping}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                    if item.done():
                        self.take(item.result())
                        item = asyncio.ensure_future(anext(watch))
                    if self.complete and not stop.is_set() and time.monotonic() >= self.retry_at:
                        await self.fill()
            finally:
                stopping.cancel()
                item.cancel()

    def take(self, item: WatchItem) -> None:
        """Learns what the stream tells."""
        if not isinstance(item, Snapshot):
            self.learn(item.session)
            return
        if item.reset == "WATCH_STORE_REPLACED":
            raise SystemExit("the server has another database now: see what still runs before you start this again")
        self.known = {session.session_id: session for session in item.sessions}
        self.complete = True
        say(f"{len(item.sessions)} sessions so far, {sum(s.state in ALIVE for s in item.sessions)} alive")

    def learn(self, session: v1.Session) -> None:
        """Keeps the latest of each session."""
        before = self.known.get(session.session_id)
        if before is None or before.revision <= session.revision:
            self.known[session.session_id] = session
            if before is None or before.state != session.state:
                say(f"slot {session.labels['slot']}: {session.session_id} {State.Name(session.state)}: {session.status_message}")

    async def fill(self) -> None:
        """Rents what is missing."""
        self.retry_at = 0.0
        alive = {session.labels["slot"] for session in self.known.values() if session.state in ALIVE}
        for slot in (str(number) for number in range(self.plan.wanted)):
            if slot in alive:
                continue
            try:
                await self.rent(slot)
            except OverLimit as limit:
                # What is ending now, or turns out cheaper, makes room; the stream tells it.
                self.say_once(str(limit))
                return
            except ApiError as error:
                if error.code.name == "INVALID_ARGUMENT":
                    raise
                say(f"slot {slot}: {error}; again in {RETRY_SECONDS:.0f} s")
                self.retry_at = time.monotonic() + RETRY_SECONDS
                return

    async def rent(self, slot: str) -> None:
        """Creates the next session of a slot, or finds the one that an earlier create has made."""
        used = [int(session.labels["generation"]) for session in self.known.values() if session.labels["slot"] == slot]
        generation = max(used, default=0) + 1
        while True:
            request = self.request(slot, generation)
            try:
                session = (await self.client.sessions.CreateSession(request)).session
            except ApiError as error:
                if error.reason != "REQUEST_ID_REUSED":
                    raise
                generation += 1  # by a plan with other terms
                continue
            self.learn(session)
            if session.state in ALIVE:
                return
            generation += 1

    def request(self, slot: str, generation: int) -> v1.CreateSessionRequest:
        """One more machine; raises OverLimit when it could cost too much."""
        plan = self.plan
        budget = plan.max_price * plan.hours
        per_hour = sum((self.price(session) for session in self.known.values() if session.state not in ENDED), plan.max_price)
        total = sum((self.most(session) for session in self.known.values()), budget)
        if per_hour > plan.per_hour:
            raise OverLimit(f"one machine more could cost ${per_hour}/h in all, and ${plan.per_hour}/h is the limit")
        if total > plan.total:
            raise OverLimit(f"one machine more could cost ${total} in all, and ${plan.total} is the limit")
        request = v1.CreateSessionRequest(
            consumer_id=plan.name,
            request_id=f"{plan.name}/{slot}/{generation}",
            labels={"fleet": plan.name, "slot": slot, "generation": str(generation)},
            requirements=v1.Requirements(filter=v1.OfferFilter(gpu_models=[plan.gpu], max_price_per_hour=from_decimal(plan.max_price))),
            max_price_per_hour=from_decimal(plan.max_price),
            max_total_cost=from_decimal(budget),
            ssh_public_key=plan.public_key,
            rental_kind=v1.RENTAL_KIND_INTERRUPTIBLE if plan.interruptible else v1.RENTAL_KIND_ON_DEMAND,
        )
        request.reservation.FromTimedelta(timedelta(hours=float(plan.hours)))
        return request

    def price(self, session: v1.Session) -> Decimal:
        """What an open session may cost per hour: until it runs, another attempt may take a dearer machine."""
        settled = session.state in (State.STATE_RUNNING, State.STATE_STOPPING) and session.HasField("price")
        return to_decimal(session.price.total_per_hour) if settled else self.plan.max_price

    def most(self, session: v1.Session) -> Decimal:
        """What a session may cost in the end."""
        high = to_decimal(session.cost.high)
        return high if session.state in ENDED else max(high, to_decimal(session.spec.max_total_cost))

    async def end(self) -> None:
        """Completes all sessions, also one whose create was never answered, and waits until every machine is proven gone."""
        filter = v1.SessionFilter(labels={"fleet": self.plan.name})
        async for session in self.client.list_sessions(v1.ListSessionsRequest(filter=filter, page_size=1000)):
            self.known[session.session_id] = session
        open_ones = [session.session_id for session in self.known.values() if session.state not in ENDED]
        for session_id in open_ones:
            await self.client.sessions.CompleteSession(v1.CompleteSessionRequest(session_id=session_id))
        for session_id in open_ones:
            self.learn(await self.client.wait_ended(session_id))
        say(f"all gone; the fleet has cost ${sum((to_decimal(s.cost.cost) for s in self.known.values()), Decimal(0)):f}")

    def say_once(self, text: str) -> None:
        """Says what is still so once only."""
        if text != self.told:
            self.told = text
            say(text)


def say(text: str) -> None:
    """One line for people."""
    print(text, flush=True)


async def main() -> None:
    """Reads the plan, keeps it, and ends in order on Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Keeps machines alive within a spending limit. The server: GPU_SHOPPER_URL.")
    parser.add_argument("--name", default="fleet")
    parser.add_argument("--wanted", type=int, default=2)
    parser.add_argument("--gpu", default="RTX 4090")
    parser.add_argument("--max-price", type=Decimal, default=Decimal("0.50"), help="dollars per hour of one machine")
    parser.add_argument("--per-hour", type=Decimal, default=Decimal("1.00"), help="dollars per hour of all")
    parser.add_argument("--total", type=Decimal, default=Decimal("20"), help="dollars in all")
    parser.add_argument("--hours", type=Decimal, default=Decimal("4"), help="how long each machine is rented")
    parser.add_argument("--public-key", type=Path, default=Path("~/.ssh/id_ed25519.pub"))
    parser.add_argument("--interruptible", action="store_true", help="rent by bids")
    parser.add_argument("--on-exit", choices=("complete", "leave"), default="complete", help="what becomes of the machines")
    asked = parser.parse_args()
    key = asked.public_key.expanduser().read_text().strip()
    plan = Plan(asked.name, asked.wanted, asked.gpu, asked.max_price, asked.per_hour, asked.total, asked.hours, key, asked.interruptible)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with aio.Client() as client:
        fleet = Fleet(client, plan)
        await fleet.run(stop)
        if asked.on_exit == "complete":
            await fleet.end()


if __name__ == "__main__":
    asyncio.run(main())
