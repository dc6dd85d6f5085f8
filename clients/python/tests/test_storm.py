"""A thousand cuts: what a watch tells is the log, whatever happens to its connection."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from gpushopper import Backoff, Client, Snapshot, aio, v1
from world import World

CUTS = 1000
QUICK = Backoff(0.002, 0.05)
PATIENCE = 60.0
"""Seconds without any progress after which the storm counts as lost; its whole length is not limited."""


class Story:
    """Sessions that change all the time, until the storm is over; by a connection of its own that is never cut."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.client = Client(world.direct)
        filter = v1.OfferFilter(providers=["tensordock"], gpu_models=["RTX 4090"], gpu_count=1)
        self.ids = []
        for _ in range(3):
            request = v1.CreateSessionRequest(requirements=v1.Requirements(filter=filter), allow_same_offer=True)
            self.ids.append(self.client.sessions.CreateSession(request).session.session_id)
        self.over, self.done = threading.Event(), threading.Event()
        self.wrong = ""
        self.stop: Callable[[], object] = lambda: None
        self.thread = threading.Thread(target=self.write)

    def begin(self, stop: Callable[[], object]) -> None:
        """Begins; `stop` ends the watch when it is lost."""
        self.stop = stop
        self.world.do(f"storm?cuts={CUTS}")
        self.thread.start()

    def write(self) -> None:
        try:
            number = 0
            while not self.done.is_set() and self.world.do("storm-left") != "0":
                number += 1
                self.change(number)
                time.sleep(0.005)
            self.over.set()
            # The first event after that ends the watch, whatever it had got before.
            deadline = time.monotonic() + PATIENCE
            while not self.done.wait(0.1):
                number += 1
                self.change(number)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the watch told nothing for {PATIENCE:.0f} s after the storm")
        except Exception as error:
            self.wrong = f"{type(error).__name__}: {error}"
            self.stop()

    def change(self, number: int) -> None:
        labels = {"number": str(number)}
        self.client.sessions.UpdateSession(v1.UpdateSessionRequest(session_id=self.ids[number % 3], labels=labels))

    def log(self) -> list[tuple[int, str, int]]:
        events = [event for one in self.ids for event in self.client.session_events(one)]
        return sorted((event.revision, event.session_id, event.sequence) for event in events)

    def end(self) -> None:
        self.done.set()
        if self.thread.ident:
            self.thread.join()
        for one in self.ids:
            self.client.sessions.DestroySession(v1.DestroySessionRequest(session_id=one))
        self.client.close()


@pytest.fixture
def story(world: World) -> Iterator[Story]:
    one = Story(world)
    yield one
    one.end()


Take: TypeAlias = Callable[[object], bool]
Begin: TypeAlias = Callable[[Callable[[], object]], None]


def blocking(url: str, begin: Begin, take: Take) -> None:
    with Client(url, backoff=QUICK) as client, client.watch_sessions() as watch:
        begin(watch.close)
        for item in watch:
            if take(item):
                break


def asynchronous(url: str, begin: Begin, take: Take) -> None:
    async def play() -> None:
        async with aio.Client(url, backoff=QUICK) as client, client.watch_sessions() as watch:
            loop = asyncio.get_running_loop()
            begin(lambda: loop.call_soon_threadsafe(watch.close))
            async for item in watch:
                if take(item):
                    break

    asyncio.run(play())


@pytest.mark.parametrize("watch", [blocking, asynchronous])
def test_a_thousand_cuts_lose_nothing_and_repeat_nothing(world: World, story: Story, watch: Callable[[str, Begin, Take], None]) -> None:
    began = 0
    told: list[tuple[int, str, int]] = []
    snapshots = 0

    def take(item: object) -> bool:
        nonlocal began, snapshots
        if isinstance(item, Snapshot):
            snapshots += 1
            began = item.end.revision
        elif isinstance(item, v1.SessionEvent):
            told.append((item.revision, item.session_id, item.sequence))
            return story.over.is_set()
        return False

    watch(world.proxy.url, story.begin, take)
    story.done.set()
    story.thread.join()
    assert not story.wrong
    assert world.do("storm-left") == "0", "the watch ended before the storm"
    assert snapshots == 1, "a watch that can go on needs no second snapshot"
    revisions = [revision for revision, _, _ in told]
    assert revisions == list(range(began + 1, revisions[-1] + 1)), "revisions are without gap, and so is what a watch of all tells"
    logged = [one for one in story.log() if began < one[0] <= revisions[-1]]
    assert [one for one in told if one[1] in story.ids] == logged
    assert len(logged) > 100, "too little happened in the storm"
