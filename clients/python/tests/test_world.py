"""The world that every client is tested in leaves nothing behind."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

WORLD = Path(__file__).parents[2] / "conformance" / "world.py"
PATIENCE = 60.0
"""Seconds; a bound for what hangs, not for what is slow."""


def test_a_world_that_is_killed_takes_its_children_with_it() -> None:
    with subprocess.Popen([sys.executable, str(WORLD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as world:
        assert world.stdout is not None
        facts = json.loads(world.stdout.readline())
        places = [urlsplit(facts[name]) for name in ("direct", "vastai")]
        assert all(listens(place.hostname, place.port) for place in places)
        world.kill()
        deadline = time.monotonic() + PATIENCE
        while any(listens(place.hostname, place.port) for place in places):
            assert time.monotonic() < deadline, "its children are still there"
            time.sleep(0.05)


def listens(host: str | None, port: int | None) -> bool:
    try:
        socket.create_connection((host or "", port or 0), timeout=5).close()
    except OSError:
        return False
    return True
