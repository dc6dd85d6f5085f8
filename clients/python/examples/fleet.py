"""Keeps a number of machines alive within a spending limit, reacting to the stream of events only. Copy it.

Each machine has a slot, 0 to N-1, and each further machine of a slot a higher generation. Both are in its labels and in the
`request_id` of its create: so a create whose answer was lost, by a cut or by an end of this program, is found again and
never made twice. Nothing is kept here that the server does not know: kill this program and start it again at any time, also
with another plan: machines that are too many, of another GPU model than is wanted now, or above its limits are completed.

The server itself ends a session at its `max_total_cost`, so the total limit holds even while nobody runs this.
"""

import argparse
import asyncio
import contextlib
import signal
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import Any

from gpushopper import ApiError, Snapshot, WatchItem, aio, from_decimal, to_decimal, v1

State = v1.Session.State
ALIVE = (State.STATE_PENDING, State.STATE_PROVISIONING, State.STATE_RUNNING)
ENDED = (State.STATE_STOPPED, State.STATE_FAILED)
RETRY_SECONDS = 20.0
"""After a create that failed: nothing to rent, or the server was away for long. Doubled with each session in a row that never ran."""
MOST_RETRY_SECONDS = 600.0
STOP_SECONDS = 2.0
"""For what is under way when this is told to stop."""
END_SECONDS, AWAY_SECONDS = 30.0, 3.0
"""For a call that ends a session, and for one to a server that was away just now; its machines end by themselves at their limits."""
LOST_SECONDS = 5.0
"""For the watch to be connected again after its wait; until then the server counts as away."""
LATER = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
"""Errors after which the same may work later."""
MENDED = ("LAUNCHES_HELD", "PROVIDER_CREDIT", "PROVIDER_AUTH", "DATABASE_NOT_ACCEPTED")
"""Reasons that an operator mends; until then nothing new is rented, and what runs goes on."""
UNHEARD = ("DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL", "UNKNOWN")
"""The same without a reason of the service: the call did not get through."""


@dataclass(frozen=True)
class Plan:
    """What is wanted, and what it may cost."""

    name: str
    """The fleet's name; its sessions carry it as the label `fleet`."""
    wanted: int
    """So many machines."""
    gpu: str
    """With one GPU of this model each."""
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
    consumer: str | None = None
    """In whose name; by default the token's."""

    @property
    def budget(self) -> Decimal:
        """Dollars that one machine may cost in all, to the next nano-dollar."""
        return (self.max_price * self.hours).quantize(Decimal("1E-9"), ROUND_UP)


class Ends(Exception):
    """Why the plan is kept no longer, as its user is told."""


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
        self.never_ran = 0
        self.told = ""
        self.away_until = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Keeps the machines alive until `stop` is set."""
        stopping = asyncio.ensure_future(stop.wait())
        filter = v1.SessionFilter(labels={"fleet": self.plan.name})
        # Ended sessions are asked for as well: what they cost counts, and their generations are taken.
        since = datetime.fromtimestamp(1, timezone.utc)
        async with self.client.watch_sessions(filter, ended_since=since, on_lost=self.lost) as watch:
            item = asyncio.ensure_future(anext(watch))
            try:
                while not stop.is_set():
                    wait = self.retry_at - time.monotonic() if self.retry_at else None
                    await asyncio.wait({item, stopping}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                    if item.done():
                        self.take(item.result())
                        item = asyncio.ensure_future(anext(watch))
                    if self.complete and not stop.is_set():
                        await self.unless(stopping, self.adjust(stop))
            finally:
                stopping.cancel()
                item.cancel()
                with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, ApiError):
                    await item

    async def unless(self, stopping: asyncio.Future[Any], work: Coroutine[Any, Any, None]) -> None:
        """Works until it is done, or not for long any more when this is told to stop, also while the server is away."""
        task = asyncio.ensure_future(work)
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            # A create that is under way is given the time to be answered: so its session is among those that are ended.
            await asyncio.wait({task}, timeout=STOP_SECONDS)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def lost(self, error: ApiError, wait: float) -> None:
        """Says that the server is away; the watch goes on by itself, and is back when this is not called again."""
        if not self.away:
            say(f"waiting for the server: {error}")
        self.away_until = time.monotonic() + wait + LOST_SECONDS

    @property
    def away(self) -> bool:
        """Whether the watch has just lost its connection."""
        return time.monotonic() < self.away_until

    def take(self, item: WatchItem) -> None:
        """Learns what the stream tells."""
        self.away_until = 0.0
        if not isinstance(item, Snapshot):
            self.learn(item.session)
            return
        if item.reset == "WATCH_STORE_REPLACED":
            raise Ends("the server has another database now: see what still runs before you start this again")
        self.known = {session.session_id: session for session in item.sessions}
        self.complete = True
        say(f"{len(item.sessions)} sessions so far, {sum(s.state in ALIVE for s in item.sessions)} alive")

    def learn(self, session: v1.Session) -> None:
        """Keeps the latest of each session."""
        before = self.known.get(session.session_id)
        if before is not None and before.revision > session.revision:
            return
        self.known[session.session_id] = session
        if before is not None and before.state == session.state:
            return
        say(f"slot {session.labels['slot']}: {session.session_id} {State.Name(session.state)}: {session.status_message}")
        if session.state == State.STATE_RUNNING:
            self.never_ran = 0
        elif session.state == State.STATE_FAILED and before is not None and not session.HasField("running_time"):
            # Something is wrong with what is asked for, or with the market: what fails at once is not rented again and again.
            self.pause(RETRY_SECONDS * 2.0 ** min(self.never_ran, 30), "it never ran")
            self.never_ran += 1

    def pause(self, seconds: float, why: str) -> None:
        """Rents nothing for a while."""
        seconds = min(seconds, MOST_RETRY_SECONDS)
        self.retry_at = max(self.retry_at, time.monotonic() + seconds)
        say(f"{why}; nothing is rented for {seconds:.0f} s")

    async def adjust(self, stop: asyncio.Event) -> None:
        """Ends what is too much, and rents what is missing."""
        try:
            await self.trim(stop)
            if time.monotonic() >= self.retry_at:
                self.retry_at = 0.0
                await self.fill(stop)
        except OverLimit as limit:
            # What is ending now, or turns out cheaper, makes room; the stream tells it.
            self.say_once(str(limit))
        except ApiError as error:
            lasting = error.code.name not in LATER and (error.reason or error.code.name not in UNHEARD)
            if lasting and error.reason not in MENDED:
                raise
            self.pause(max(RETRY_SECONDS, error.retry_after), str(error))

    async def trim(self, stop: asyncio.Event) -> None:
        """Completes machines that the plan does not want, which an earlier one may have rented."""
        for session, why in list(self.unwanted()):
            if not stop.is_set():
                say(f"slot {session.labels['slot']}: {session.session_id} is not wanted any more: {why}")
                ended = await self.client.sessions.CompleteSession(v1.CompleteSessionRequest(session_id=session.session_id))
                self.learn(ended.session)

    def unwanted(self) -> Iterator[tuple[v1.Session, str]]:
        """Machines that do not fit the plan, then those of the highest slots until the rest is within the limits; and why."""
        plan = self.plan
        fits: list[v1.Session] = []
        alive = [session for session in self.known.values() if session.state in ALIVE]
        per_hour = sum((self.price(session) for session in alive), Decimal(0))
        # What ends will cost no more than it has cost; only what goes on may come to its limit.
        total = sum((self.most(one) if one.state in ALIVE else to_decimal(one.cost.high) for one in self.known.values()), Decimal(0))
        for session in sorted((one for one in alive if one.labels["slot"].isdecimal()), key=slot_of, reverse=True):
            why, price = "", self.price(session)
            if slot_of(session) >= plan.wanted:
                why = f"the plan wants {plan.wanted}"
            elif list(session.spec.requirements.filter.gpu_models) != [plan.gpu]:
                why = f"the plan wants {plan.gpu}"
            elif price > plan.max_price and to_decimal(session.spec.max_price_per_hour) > plan.max_price:
                why = f"it could cost ${price}/h, and ${plan.max_price}/h is the limit of one"
            if not why:
                fits.append(session)
                continue
            per_hour, total = per_hour - price, total - self.most(session) + to_decimal(session.cost.high)
            yield session, why
        for session in fits:
            if per_hour > plan.per_hour:
                why = f"all could cost ${per_hour}/h, and ${plan.per_hour}/h is the limit"
            elif total > plan.total:
                why = f"all could cost ${total} in the end, and ${plan.total} is the limit"
            else:
                return
            per_hour, total = per_hour - self.price(session), total - self.most(session) + to_decimal(session.cost.high)
            yield session, why

    async def fill(self, stop: asyncio.Event) -> None:
        """Rents what is missing."""
        alive = {session.labels["slot"] for session in self.known.values() if session.state in ALIVE}
        for slot in (str(number) for number in range(self.plan.wanted)):
            if slot not in alive and not stop.is_set():
                await self.rent(slot)

    async def rent(self, slot: str) -> None:
        """Creates the next session of a slot, or finds the one that an earlier create has made."""
        used = [int(session.labels["generation"] or 0) for session in self.known.values() if session.labels["slot"] == slot]
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
        per_hour = sum((self.price(session) for session in self.known.values() if session.state not in ENDED), plan.max_price)
        total = sum((self.most(session) for session in self.known.values()), plan.budget)
        if per_hour > plan.per_hour:
            raise OverLimit(f"one machine more could cost ${per_hour}/h in all, and ${plan.per_hour}/h is the limit")
        if total > plan.total:
            raise OverLimit(f"one machine more could cost ${total} in all, and ${plan.total} is the limit")
        request = v1.CreateSessionRequest(
            consumer_id=plan.consumer,
            request_id=f"{plan.name}/{slot}/{generation}",
            labels={"fleet": plan.name, "slot": slot, "generation": str(generation)},
            requirements=v1.Requirements(
                filter=v1.OfferFilter(gpu_models=[plan.gpu], gpu_count=1, max_price_per_hour=from_decimal(plan.max_price))
            ),
            max_price_per_hour=from_decimal(plan.max_price),
            max_total_cost=from_decimal(plan.budget),
            ssh_public_key=plan.public_key,
            rental_kind=v1.RENTAL_KIND_INTERRUPTIBLE if plan.interruptible else v1.RENTAL_KIND_ON_DEMAND,
        )
        request.reservation.FromTimedelta(timedelta(seconds=int(plan.hours * 3600)))
        return request

    def price(self, session: v1.Session) -> Decimal:
        """What an open session may cost per hour: until it runs, another attempt may take a machine as dear as it was created to accept."""
        settled = session.state in (State.STATE_RUNNING, State.STATE_STOPPING) and session.HasField("price")
        if settled:
            return to_decimal(session.price.total_per_hour)
        return max(self.plan.max_price, to_decimal(session.spec.max_price_per_hour))

    def most(self, session: v1.Session) -> Decimal:
        """What a session may cost in the end."""
        high = to_decimal(session.cost.high)
        return high if session.state in ENDED else max(high, to_decimal(session.spec.max_total_cost))

    async def end(self) -> None:
        """Completes all sessions, also one whose create was never answered, and waits until every machine is proven gone."""
        sessions, limit = self.client.sessions, AWAY_SECONDS if self.away else END_SECONDS
        listed = v1.ListSessionsRequest(filter=v1.SessionFilter(labels={"fleet": self.plan.name}), page_size=1000)
        try:
            async for page in self.client.pages(lambda request: sessions.ListSessions(request, timeout=limit), listed):
                self.known |= {session.session_id: session for session in page.sessions}
            for session_id in self.open():
                ended = await sessions.CompleteSession(v1.CompleteSessionRequest(session_id=session_id), timeout=limit)
                self.learn(ended.session)
        except ApiError as error:
            left = ", ".join(self.open()) or "none that is known"
            how = f"fleet.py --name {self.plan.name} --wanted 0"
            raise Ends(f"error: {error}\nmachines that go on until their limits: {left}; to end them: {how}") from None
        if self.open():
            say(f"waiting until {len(self.open())} machines are proven gone; a second signal ends this at once")
        for session_id in self.open():
            self.learn(await self.client.wait_ended(session_id, timeout=None))
        say(f"all gone; the fleet has cost ${sum((to_decimal(s.cost.cost) for s in self.known.values()), Decimal(0)):f}")

    def open(self) -> list[str]:
        """The sessions that have not ended yet."""
        return [session.session_id for session in self.known.values() if session.state not in ENDED]

    def say_once(self, text: str) -> None:
        """Says what is still so once only."""
        if text != self.told:
            self.told = text
            say(text)


def slot_of(session: v1.Session) -> int:
    """The number of the slot that a machine fills."""
    return int(session.labels["slot"])


def say(text: str) -> None:
    """One line for people."""
    print(text, flush=True)


def count(text: str) -> int:
    """A number of machines of the command line."""
    if text.isascii() and text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: a number of machines, 0 or more")


def dollars(text: str) -> Decimal:
    """An amount of the command line; no finer than a nano-dollar."""
    try:
        return to_decimal(from_decimal(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> Decimal:
    """A number of hours of the command line, at least a second."""
    with contextlib.suppress(ArithmeticError):
        number = Decimal(text)
        if number.is_finite() and number * 3600 >= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r}: a number of hours above 0, such as 0.5")


def main() -> None:
    """Reads the plan and keeps it."""
    parser = argparse.ArgumentParser(description="Keeps machines alive within a spending limit. The server: GPU_SHOPPER_URL.")
    parser.add_argument("--name", default="fleet")
    parser.add_argument("--wanted", type=count, default=2, help="how many machines, with one GPU each; 0 ends all")
    parser.add_argument("--gpu", default="RTX 4090")
    parser.add_argument("--max-price", type=dollars, default=Decimal("0.50"), help="dollars per hour of one machine")
    parser.add_argument("--per-hour", type=dollars, default=Decimal("1.00"), help="dollars per hour of all")
    parser.add_argument("--total", type=dollars, default=Decimal("20"), help="dollars in all")
    parser.add_argument("--hours", type=positive, default=Decimal("4"), help="how long each machine is rented")
    parser.add_argument("--public-key", type=Path, default=Path("~/.ssh/id_ed25519.pub"))
    parser.add_argument("--interruptible", action="store_true", help="rent by bids")
    parser.add_argument("--consumer", help="in whose name; default: the token's")
    parser.add_argument("--on-exit", choices=("complete", "leave"), default="complete", help="what becomes of the machines")
    asked = parser.parse_args()
    try:
        key = asked.public_key.expanduser().read_text().strip() if asked.wanted > 0 else ""
    except OSError as error:
        parser.error(f"--public-key: {error}")
    terms = (asked.max_price, asked.per_hour, asked.total, asked.hours, key, asked.interruptible, asked.consumer)
    plan = Plan(asked.name, asked.wanted, asked.gpu, *terms)
    try:
        asyncio.run(keep(plan, complete=asked.on_exit == "complete"))
    except Ends as ends:
        # Not raised within the event loop: there it cuts a turn of it short, and the gRPC library's poller prints a traceback.
        raise SystemExit(str(ends)) from None


async def keep(plan: Plan, complete: bool) -> None:
    """Keeps the plan, and ends in order on Ctrl-C or SIGTERM; at once on the second one."""
    stop, whole = asyncio.Event(), asyncio.current_task()

    def told() -> None:
        if stop.is_set() and whole:
            whole.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told)
    try:
        async with aio.Client() as client:
            fleet = Fleet(client, plan)
            if plan.wanted > 0:
                await fleet.run(stop)
            if plan.wanted == 0 or complete:
                await fleet.end()
    except ApiError as error:
        how = f"fleet.py --name {plan.name} --wanted 0"
        raise Ends(f"error: {error}\nmachines go on until their limits; end them with: {how}") from None
    except asyncio.CancelledError:
        raise Ends("ended at once; machines go on until their limits") from None


if __name__ == "__main__":
    main()
