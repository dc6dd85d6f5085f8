#!/usr/bin/env python3
"""A world for clients to be tested in: simulated marketplaces, a real server, and a proxy before it that can cut.

As a program it prints one line of JSON and serves until its standard input ends, so that tests in any language can start
it as a child; arguments are settings of the server, `NAME=value`: `{"url": the proxy, "direct": the server itself, "control": see below, "vastai": …, "tensordock": …}`. The last two are
the marketplaces; their admin API under `/_sim/` makes machines vanish and tells the truth about them.

`POST control/<do>`, answered with 200 when it is done:

  cut            every connection through the proxy is reset
  lose           the answer to what is sent next is lost: it is held back, and half a second later the connection is reset
  restart        SIGKILL, and the server starts again on the same database
  replace        SIGKILL, and the server starts on an empty database
  storm?cuts=N   from now on every connection that stands is reset after a random short while or number of bytes, N times in
                 all. It stands when the client has acknowledged the server's HTTP/2 settings: cut earlier, it counts as one
                 that never was, and clients rightly wait longer and longer before they try again
  storm-left     answers with the number of cuts that are left; refuses (400) when there was nothing to cut for a minute

However this program ends, also by SIGKILL, its children end with it and its folder goes.

Nothing but Python's standard library. It is not part of any package.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300.0
"""Seconds; nothing here takes longer, and what does has hung."""
STALLED = 60.0
"""Seconds without a cut after which a storm counts as one that the client does not come through."""
ACKNOWLEDGED = bytes.fromhex("000000040100000000")
"""The HTTP/2 frame by which a client says that it has read the server's settings."""


def binary() -> Path:
    """The program under test: GPU_SHOPPER_BIN, else the debug build."""
    given = os.environ.get("GPU_SHOPPER_BIN")
    path = Path(given) if given else Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "gpu-shopper"
    path = path if path.is_absolute() else ROOT / path
    if not path.exists():
        raise SystemExit(f"{path} is not there: build it with `cargo build`, or say where it is with GPU_SHOPPER_BIN")
    return path


def cut_off(connection: socket.socket) -> None:
    """Ends a connection at once; who still reads it wakes up. Its number stays taken until it is closed."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    """Ends a connection that nobody reads, so that the other side sees a reset and not an orderly end."""
    cut_off(connection)
    with contextlib.suppress(OSError):
        connection.close()


class Proxy:
    """Forwards TCP to the server, wherever it is now, and cuts when it is told to."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.target: tuple[str, int] | None = None
        self.lock = threading.Lock()
        self.pairs: set[tuple[socket.socket, socket.socket]] = set()
        self.readers: dict[tuple[socket.socket, socket.socket], int] = {}
        self.losing = False
        self.cuts_left = 0
        self.last_cut = 0.0
        self.bytes_left: dict[tuple[socket.socket, socket.socket], int] = {}
        self.chance = random.Random(4711)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self.target is None:
                raise OSError("no server now")
            server = socket.create_connection(self.target, timeout=5)
            server.settimeout(None)
        except OSError:
            reset(client)
            return
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (client, server)
        with self.lock:
            self.pairs.add(pair)
            self.readers[pair] = 2
        threading.Thread(target=self._up, args=(pair,), daemon=True).start()
        self._down(pair)

    def _up(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        begin, stands, tail = time.monotonic(), False, b""
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
                if self.losing:
                    self.losing = False
                    timer = threading.Timer(0.5, self.end, args=(pair,))
                    timer.daemon = True
                    timer.start()
                    self.held = pair
                if not stands:
                    stands = ACKNOWLEDGED in tail + data
                    tail = (tail + data)[-len(ACKNOWLEDGED) + 1 :]
                    if stands and self.cuts_left > 0:
                        self._brew(pair, time.monotonic() - begin)
        self._leave(pair)

    held: tuple[socket.socket, socket.socket] | None = None

    def _brew(self, pair: tuple[socket.socket, socket.socket], pace: float) -> None:
        """Decides when a connection is cut that stands since now and took so many seconds to come to that."""
        with self.lock:
            by_bytes, some, while_ = self.chance.random() < 0.5, self.chance.expovariate(1 / 1500), self.chance.random()
            if by_bytes:
                self.bytes_left[pair] = 1 + int(some)
        # What is told by bytes ends too when nothing is said; a client on a slow machine gets as far as one on a quick machine.
        timer = threading.Timer(0.2 + pace if by_bytes else while_ * max(0.008, pace), self._storm, args=(pair,))
        timer.daemon = True
        timer.start()

    def _down(self, pair: tuple[socket.socket, socket.socket]) -> None:
        client, server = pair
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if self.losing or self.held == pair:
                    continue
                left = self.bytes_left.get(pair)
                if left is not None and self.cuts_left > 0:
                    if len(data) >= left:
                        client.sendall(data[:left])
                        self._storm(pair)
                        break
                    self.bytes_left[pair] = left - len(data)
                client.sendall(data)
        self._leave(pair)

    def _leave(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """What each of the two directions ends with. Only the last one closes: a number that is closed while the other one is
        about to read from it may be another connection's by then."""
        self.end(pair)
        with self.lock:
            self.readers[pair] -= 1
            if self.readers[pair] > 0:
                return
            del self.readers[pair]
        for one in pair:
            reset(one)

    def _storm(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """Cuts a connection, if there are cuts left and it still stands."""
        with self.lock:
            if pair not in self.pairs or self.cuts_left <= 0:
                return
            self.cuts_left -= 1
            self.last_cut = time.monotonic()
        self.end(pair)

    def storm(self, cuts: int) -> None:
        """From now on connections are cut, so many times."""
        with self.lock:
            self.cuts_left, self.last_cut = cuts, time.monotonic()
        self.cut()

    def storm_left(self) -> int:
        """The number of cuts that are left.

        Raises:
            ValueError: nobody has come back for long.
        """
        with self.lock:
            left, silent = self.cuts_left, time.monotonic() - self.last_cut
        if left > 0 and silent > STALLED:
            raise ValueError(f"no connection stood that could be cut for {silent:.0f} s, {left} cuts are left: the client does not come back")
        return left

    def end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with self.lock:
            self.pairs.discard(pair)
            self.bytes_left.pop(pair, None)
        for one in pair:
            cut_off(one)

    def cut(self) -> None:
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs:
            self.end(pair)

    def close(self) -> None:
        self.target = None
        reset(self.listener)
        self.cut()


GUARDIAN = """
import os, shutil, signal, sys
alive = set()
for line in sys.stdin:
    alive ^= {int(line)}
for pid in alive:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""
"""Reads each child's number when it begins and when it has ended. When nobody can write any more, what is left is ended."""


class World:
    """Everything together, in a temporary folder. `with World() as world: …`"""

    def __init__(self, seed: int = 7, env: dict[str, str] | None = None) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="gpu-shopper-clients-")
        self.home = Path(self.folder.name)
        self.children: list[subprocess.Popen[bytes]] = []
        self.env = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG")}
        self.env |= {"SERVER_PORT": "0", "LOG_LEVEL": "info", "LOG_FORMAT": "text", "ABSENCE_SPACING": "1s", "LIFECYCLE_CHECK_INTERVAL": "5s"}
        self.database = 0
        self.server: subprocess.Popen[bytes] | None = None
        self.proxy = Proxy()
        # In a session of its own: what ends this program from a terminal does not end it.
        guard = [sys.executable, "-c", GUARDIAN, self.folder.name]
        self.guardian = subprocess.Popen(guard, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            arguments = ["sim", "--seed", str(seed), "--vastai-port", "0", "--tensordock-port", "0"]
            self.simulation = self.spawn("sim", arguments, self.env)
            exports = self.says("sim", self.simulation, r"(?s)export (VASTAI_[^\n]*)\nexport (TENSORDOCK_[^\n]*)\n")
            for pair in shlex.split(f"{exports[1]} {exports[2]}"):
                name, _, value = pair.partition("=")
                self.env[name] = value
            self.env |= env or {}
            self.start()
            self._ready()
        except BaseException:
            self.close()
            raise
        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.httpd.daemon_threads = True
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()
        self.control = f"http://127.0.0.1:{self.httpd.server_address[1]}"

    def facts(self) -> dict[str, str]:
        """Where everything is."""
        return {
            "url": self.proxy.url,
            "direct": self.direct,
            "control": self.control,
            "vastai": self.env["VASTAI_BASE_URL"],
            "tensordock": self.env["TENSORDOCK_BASE_URL"],
        }

    def spawn(self, name: str, arguments: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        """Starts the program as a child, with a log of its own."""
        with open(self.home / f"{name}.log", "ab") as log:
            child = subprocess.Popen([str(binary()), *arguments], cwd=self.home, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.children.append(child)
        self._tell_guardian(child)
        return child

    def _tell_guardian(self, child: subprocess.Popen[bytes]) -> None:
        """Says that a child has begun, or ended."""
        assert self.guardian.stdin is not None
        self.guardian.stdin.write(b"%d\n" % child.pid)
        self.guardian.stdin.flush()

    def says(self, name: str, child: subprocess.Popen[bytes], pattern: str, skip: int = 0) -> re.Match[str]:
        """Waits until a child has written what matches."""
        deadline = time.monotonic() + PATIENCE
        while True:
            text = self.log(name)[skip:]
            if found := re.search(pattern, text):
                return found
            if child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"`gpu-shopper {name}` does not do what it should ({pattern!r} never came):\n{text[-4000:]}")
            time.sleep(0.02)

    def log(self, name: str) -> str:
        """What a child has written so far."""
        return (self.home / f"{name}.log").read_text(errors="replace")

    def start(self) -> None:
        """Starts the server on the current database and leads the proxy to it."""
        skip = len(self.log("serve")) if (self.home / "serve.log").exists() else 0
        env = self.env | {"DATABASE_PATH": str(self.home / f"world-{self.database}.db")}
        self.server = self.spawn("serve", ["serve"], env)
        self.direct = self.says("serve", self.server, r"gpu-shopper listens on (\S+)\n", skip)[1]
        address = urllib.parse.urlsplit(self.direct)
        self.proxy.target = (address.hostname or "127.0.0.1", address.port or 0)

    def kill(self) -> None:
        """Ends the server as a power cut would."""
        self.proxy.target = None
        if self.server is not None:
            self.server.send_signal(signal.SIGKILL)
            self.server.wait()
            self._tell_guardian(self.server)
            self.children.remove(self.server)
            self.server = None
        self.proxy.cut()

    def _ready(self) -> None:
        """Waits until each provider's offers are known."""
        deadline = time.monotonic() + PATIENCE
        command = [str(binary()), "--server", self.direct, "providers", "-o", "json"]
        while True:
            asked = subprocess.run(command, cwd=self.home, env=self.env, capture_output=True, text=True, check=False)
            counts = re.findall(r'"offer_count":\s*([1-9]\d*)', asked.stdout)
            if len(counts) >= 2:
                return
            if time.monotonic() > deadline:
                raise SystemExit(f"the server does not come to know offers: {asked.stdout}{asked.stderr}\n{self.log('serve')[-4000:]}")
            time.sleep(0.2)

    @staticmethod
    def fetch(url: str, method: str = "GET") -> str:
        """The body of an answer, past any proxy of the environment."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(url, method=method), timeout=PATIENCE) as answer:
            text: str = answer.read().decode()
            return text

    def do(self, word: str) -> str:
        """Does what `control` is asked for."""
        word, _, query = word.partition("?")
        if word == "cut":
            self.proxy.cut()
        elif word == "lose":
            self.proxy.losing = True
        elif word in ("restart", "replace"):
            self.kill()
            self.database += word == "replace"
            self.start()
        elif word == "storm":
            self.proxy.storm(int(urllib.parse.parse_qs(query)["cuts"][0]))
        elif word == "storm-left":
            return str(self.proxy.storm_left())
        else:
            raise KeyError(word)
        return "ok"

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        world = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                try:
                    status, text = 200, world.do(self.path.lstrip("/"))
                except (KeyError, ValueError, SystemExit) as error:
                    status, text = 400, f"{type(error).__name__}: {error}"
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                # Said aloud, although HTTP/1.0 ends every connection: Java's client keeps one that does not say so for its next call.
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        return Handler

    def close(self) -> None:
        """Ends everything that was started."""
        self.proxy.close()
        for child in self.children:
            child.kill()
        for child in self.children:
            child.wait()
            self._tell_guardian(child)
        assert self.guardian.stdin is not None
        self.guardian.stdin.close()
        self.guardian.wait()
        if hasattr(self, "httpd"):
            self.httpd.shutdown()
            self.httpd.server_close()
        self.folder.cleanup()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> None:
    """Serves a world until standard input ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with World(env=dict(setting.split("=", 1) for setting in sys.argv[1:])) as world:
        print(json.dumps(world.facts()), flush=True)
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
