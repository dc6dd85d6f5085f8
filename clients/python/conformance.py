"""Plays the conformance scenario by way of the client and prints a transcript: see ../conformance/SPEC.md.

`conformance.py SCENARIO` plays it with the blocking client, `conformance.py --asyncio SCENARIO` with the other one.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
import urllib.request
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from gpushopper import ApiError, Client, SessionEnded, Snapshot, aio, from_decimal, money, save_key, to_decimal, v1

STATE = v1.Session.State.Name
TYPE = v1.SessionEvent.Type.Name
REASON = v1.EndReason.Name


class Blocking:
    """Lets the blocking client be played by the same code as the other one; each of its calls is made as it is."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, service: str, method: str, request: Any) -> Any:
        return getattr(getattr(self.client, service), method)(request)

    async def each(self, method: str, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        for item in getattr(self.client, method)(*arguments, **named):
            yield item

    def watch(self, method: str, *arguments: Any, **named: Any) -> Any:
        return getattr(self.client, method)(*arguments, **named)

    async def items(self, watch: Any) -> AsyncIterator[Any]:
        for item in watch:
            yield item

    async def wait(self, method: str, session: str) -> Any:
        return getattr(self.client, method)(session)

    async def close(self) -> None:
        self.client.close()


class Asyncio:
    """The client for asyncio."""

    def __init__(self, client: aio.Client) -> None:
        self.client = client

    async def call(self, service: str, method: str, request: Any) -> Any:
        return await getattr(getattr(self.client, service), method)(request)

    async def each(self, method: str, *arguments: Any, **named: Any) -> AsyncIterator[Any]:
        async for item in getattr(self.client, method)(*arguments, **named):
            yield item

    def watch(self, method: str, *arguments: Any, **named: Any) -> Any:
        return getattr(self.client, method)(*arguments, **named)

    async def items(self, watch: Any) -> AsyncIterator[Any]:
        async for item in watch:
            yield item

    async def wait(self, method: str, session: str) -> Any:
        return await getattr(self.client, method)(session)

    async def close(self) -> None:
        await self.client.close()


REQUESTS: dict[str, tuple[str, type[Any]]] = {
    "GetOffer": ("inventory", v1.GetOfferRequest),
    "ListOffers": ("inventory", v1.ListOffersRequest),
    "CreateSession": ("sessions", v1.CreateSessionRequest),
    "GetSession": ("sessions", v1.GetSessionRequest),
    "ExtendSession": ("sessions", v1.ExtendSessionRequest),
    "UpdateSession": ("sessions", v1.UpdateSessionRequest),
    "CompleteSession": ("sessions", v1.CompleteSessionRequest),
    "DestroySession": ("sessions", v1.DestroySessionRequest),
    "GetSessionCost": ("costs", v1.GetSessionCostRequest),
}


def word(value: bool) -> str:
    return "true" if value else "false"


def joined(labels: Any) -> str:
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) or "-"


class Player:
    """One play of a scenario."""

    def __init__(self, scenario: dict[str, Any], side: Blocking | Asyncio) -> None:
        self.scenario = scenario
        self.side = side
        self.driver = os.environ["CONFORMANCE_CONTROL"]
        self.ids: dict[str, str] = {}
        self.created: dict[str, v1.CreateSessionResponse] = {}
        self.tokens: dict[str, str] = {}
        self.watched: dict[str, list[v1.SessionEvent]] = {}
        self.step = ""

    def say(self, text: str) -> None:
        print(f"{self.step}: {text}", flush=True)

    def alias(self, session_id: str) -> str:
        return next(alias for alias, known in self.ids.items() if known == session_id)

    def filled(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.filled(one) for key, one in value.items()}
        if isinstance(value, str):
            value = value.replace("${public_key}", self.scenario["public_key"])
            for alias, session_id in self.ids.items():
                value = value.replace(f"${{session:{alias}}}", session_id)
        return value

    async def call(self, method: str, request: Any) -> Any:
        return await self.side.call(REQUESTS[method][0], method, request)

    def request(self, method: str, step: dict[str, Any]) -> Any:
        return json_format.ParseDict(self.filled(step["request"]), REQUESTS[method][1]())

    async def ask_control(self, verb: str) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{self.driver}/{verb}", method="POST")

        def post() -> None:
            with opener.open(request, timeout=120) as answer:
                answer.read()

        await asyncio.to_thread(post)

    async def play(self) -> None:
        for step in self.scenario["steps"]:
            self.step = step["id"]
            await getattr(self, step["op"])(step)

    async def money(self, step: dict[str, Any]) -> None:
        values = [json_format.ParseDict(value, v1.Money()) for value in step["values"]]
        for value in values:
            back = from_decimal(to_decimal(value))
            self.say(f"value {money.text(to_decimal(value))} {back.units}:{back.nanos}")
        self.say(f"sum {money.text(money.total(values))}")
        for decimal in step["decimals"]:
            made = from_decimal(decimal)
            self.say(f"money {made.units}:{made.nanos}")
        for decimal in step["refused"]:
            try:
                from_decimal(decimal)
                self.say("accepted")
            except ValueError:
                self.say("refused")
        for value in step["foreign"]:
            try:
                to_decimal(json_format.ParseDict(value, v1.Money()))
                self.say("accepted")
            except ValueError:
                self.say("refused")

    async def offers(self, step: dict[str, Any]) -> None:
        page = await self.call("ListOffers", self.request("ListOffers", step))
        self.say(f"total={page.total_size} offers={len(page.offers)}")
        for offer in page.offers[: step["show"]]:
            kind = v1.RentalKind.Name(offer.rental_kind)
            price = money.text(to_decimal(offer.price.total_per_hour))
            self.say(f"{offer.provider} {offer.gpu_model} x{offer.gpu_count} {offer.gpu_memory_mib} {kind} {price}")
        self.say(f"sum={money.text(money.total(offer.price.total_per_hour for offer in page.offers))}")

    async def offers_paged(self, step: dict[str, Any]) -> None:
        ids = [offer.offer_id async for offer in self.side.each("offers", self.request("ListOffers", step))]
        self.say(f"offers={len(ids)} distinct={len(set(ids))}")

    async def fails(self, step: dict[str, Any]) -> None:
        try:
            if step["method"] == "WatchSession":
                async for _ in self.side.items(self.side.watch("watch_session", self.filled(step["request"])["sessionId"])):
                    break
            else:
                await self.call(step["method"], self.request(step["method"], step))
            self.say("no error")
        except ApiError as error:
            fields = ",".join(violation.field for violation in error.violations) or "-"
            metadata = ",".join(sorted(error.metadata)) or "-"
            self.say(f"{error.code.name} {error.reason} fields={fields} metadata={metadata} retryable={word(error.retryable)}")

    async def create(self, step: dict[str, Any]) -> None:
        answer = await self.call("CreateSession", self.request("CreateSession", step))
        session = answer.session
        if session.session_id not in self.ids.values():
            self.ids[step["as"]] = session.session_id
            self.created[step["as"]] = answer
        parts = {
            "session": self.alias(session.session_id),
            "replayed": word(answer.replayed),
            "private_key": "yes" if answer.ssh_private_key else "no",
            "key": "own" if session.spec.ssh_public_key == self.scenario["public_key"] else "server",
            "labels": joined(session.labels),
            "reservation": session.spec.reservation.seconds,
        }
        self.say(" ".join(f"{name}={value}" for name, value in parts.items() if name not in step.get("hide", [])))

    async def save_key(self, step: dict[str, Any]) -> None:
        path = Path(os.environ["CONFORMANCE_DIR"]) / f"{step['session']}.pem"
        key = self.created[step["session"]].ssh_private_key
        save_key(path, key)
        mode = stat.S_IMODE(path.stat().st_mode)
        try:
            save_key(path, key)
            again = "overwritten"
        except FileExistsError:
            again = "refused"
        self.say(f"mode={mode:04o} again={again}")

    async def sessions(self, step: dict[str, Any]) -> None:
        filter = json_format.ParseDict(step["filter"], v1.SessionFilter())
        told = [one async for one in self.side.each("list_sessions", v1.ListSessionsRequest(filter=filter, page_size=1))]
        names = [self.alias(one.session_id) + (f":{STATE(one.state)}" if step["show_state"] else "") for one in told]
        self.say(" ".join([f"count={len(told)}", *names]))

    async def watch(self, step: dict[str, Any]) -> None:
        alias = step["session"]
        token = self.created[alias].resume_token if step["from"] == "create" else self.tokens[alias]
        watch = self.side.watch("watch_session", self.ids[alias], resume_token=token)
        seen, disturb, ended = self.watched.setdefault(alias, []), list(step["disturb"]), True
        async for item in self.side.items(watch):
            if isinstance(item, Snapshot):
                self.say(f"reset {item.reset}")
                continue
            seen.append(item)
            line = f"{TYPE(item.type)} {STATE(item.to_state)}"
            if TYPE(item.type) in step["show"]:
                self.say(line)
                for one in [one for one in disturb if one["at"] == line][:1]:
                    disturb.remove(one)
                    await self.ask_control(one["do"])
            if STATE(item.to_state) == step["until"]:
                ended = False
                break
        self.tokens[alias] = watch.resume_token
        watch.close()
        if ended:
            self.say("ended")
        self.say(f"gap_free={word([event.sequence for event in seen] == list(range(1, len(seen) + 1)))}")

    async def watch_sessions(self, step: dict[str, Any]) -> None:
        filter = json_format.ParseDict(step["filter"], v1.SessionFilter())
        token = "" if step["from"] == "snapshot" else self.tokens[step["from"]]
        watch = self.side.watch("watch_sessions", filter, resume_token=token)
        missing = step["events"]
        async for item in self.side.items(watch):
            if isinstance(item, Snapshot):
                if item.reset:
                    self.say(f"reset {item.reset}")
                for alias, state in sorted((self.alias(one.session_id), STATE(one.state)) for one in item.sessions):
                    self.say(f"snapshot {alias} {state}")
                self.say(f"snapshot_end {len(item.sessions)}")
            elif TYPE(item.type) in step["show"]:
                self.say(f"event {self.alias(item.session_id)} {TYPE(item.type)} {STATE(item.to_state)}")
                missing -= 1
            if missing <= 0:
                break
        if "save_token" in step:
            self.tokens[step["save_token"]] = watch.resume_token
        watch.close()

    async def wait_running(self, step: dict[str, Any]) -> None:
        try:
            one = await self.side.wait("wait_running", self.ids[step["session"]])
        except SessionEnded as error:
            self.say(f"ended {REASON(error.session.end_reason)}")
            return
        address = "yes" if one.ssh_host and one.ssh_port else "no"
        self.say(f"{STATE(one.state)} {one.provider} {one.gpu_model} x{one.gpu_count} user={one.ssh_user} address={address}")

    async def wait_ended(self, step: dict[str, Any]) -> None:
        one = await self.side.wait("wait_ended", self.ids[step["session"]])
        self.say(f"{STATE(one.state)} {REASON(one.end_reason)} cost_final={word(one.cost_final)}")

    async def extend(self, step: dict[str, Any]) -> None:
        session_id = self.ids[step["session"]]
        before = (await self.call("GetSession", v1.GetSessionRequest(session_id=session_id))).session.expire_time.ToDatetime()
        request = v1.ExtendSessionRequest(session_id=session_id, request_id=step["request_id"])
        request.additional_duration.FromTimedelta(timedelta(seconds=step["by"]))
        answer = await self.call("ExtendSession", request)
        by = answer.session.expire_time.ToDatetime() - before
        self.say(f"by={int(by.total_seconds())} replayed={word(answer.replayed)}")

    async def update_labels(self, step: dict[str, Any]) -> None:
        request = v1.UpdateSessionRequest(session_id=self.ids[step["session"]], labels=step["labels"])
        self.say(f"labels={joined((await self.call('UpdateSession', request)).session.labels)}")

    async def complete(self, step: dict[str, Any]) -> None:
        one = (await self.call("CompleteSession", v1.CompleteSessionRequest(session_id=self.ids[step["session"]]))).session
        self.say(f"{STATE(one.state)} {REASON(one.end_reason)}")

    async def destroy(self, step: dict[str, Any]) -> None:
        one = (await self.call("DestroySession", v1.DestroySessionRequest(session_id=self.ids[step["session"]]))).session
        self.say(f"{STATE(one.state)} {REASON(one.end_reason)}")

    async def events(self, step: dict[str, Any]) -> None:
        def facts(event: v1.SessionEvent) -> tuple[int, int, int, int]:
            return event.revision, event.sequence, event.type, event.to_state

        told = [facts(one) async for one in self.side.each("session_events", self.ids[step["session"]], page_size=step["page_size"])]
        self.say(f"same_as_watched={word(told == [facts(one) for one in self.watched[step['session']]])}")

    async def cost(self, step: dict[str, Any]) -> None:
        answer = await self.call("GetSessionCost", v1.GetSessionCostRequest(session_id=self.ids[step["session"]]))
        cost = to_decimal(answer.total.cost)
        facts = {
            "exact": answer.total.text == f"${money.text(cost)}",
            "components": money.total(one.amount.cost for one in answer.components) == cost,
            "attempts": money.total(one.amount.cost for one in answer.attempts) == cost,
            "bounds": to_decimal(answer.total.low) <= cost <= to_decimal(answer.total.high),
            "final": answer.final,
        }
        told = " ".join(f"{name}={word(value)}" for name, value in facts.items())
        self.say(f"currency={answer.total.cost.currency_code} {told}")

    async def control(self, step: dict[str, Any]) -> None:
        await self.ask_control(step["do"])
        self.say("ok")


async def main() -> None:
    """Plays it."""
    *options, path = sys.argv[1:]
    scenario = json.loads(Path(path).read_text(encoding="utf-8"))
    side: Blocking | Asyncio = Asyncio(aio.Client()) if options == ["--asyncio"] else Blocking(Client())
    try:
        await Player(scenario, side).play()
    finally:
        await side.close()


if __name__ == "__main__":
    asyncio.run(main())
