"""What the README shows works as it stands there."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from world import World

FOLDER = Path(__file__).parents[1]
RENT, WATCH, FOLLOW = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.S)


def start(world: World, folder: Path, program: str) -> subprocess.Popen[str]:
    env = os.environ | {"GPU_SHOPPER_URL": world.proxy.url, "PYTHONPATH": str(FOLDER / "src"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen([sys.executable, "-c", program], cwd=folder, env=env, stdout=subprocess.PIPE, text=True)


def said(world: World, folder: Path, program: str) -> str:
    assert len(program.strip().splitlines()) <= 21
    with start(world, folder, program) as running:
        told, _ = running.communicate(timeout=300)
    assert running.returncode == 0
    return told


def follow_until(world: World, folder: Path, last: str) -> list[str]:
    """What the program that follows all sessions prints up to a line, and ends it once it has kept its token."""
    told: list[str] = []
    token = folder / "watch.token"
    with start(world, folder, FOLLOW) as following:
        assert following.stdout is not None
        for line in following.stdout:
            told.append(line.strip())
            if re.fullmatch(last, line.strip()):
                break
        while not token.exists() or not token.read_text():
            time.sleep(0.02)
        following.kill()
    return told


def test_the_programs_do_what_they_say(world: World, tmp_path: Path) -> None:
    assert len(follow_until(world, tmp_path, r"0 open sessions, \$0.*")) == 1

    told = said(world, tmp_path, RENT)
    rented = re.fullmatch(r"ssh -p \d+ \S+@127\.0\.0\.1 -i (\S+)\.pem\nit has cost 0\.\d+ dollars\n", told)
    assert rented, told
    assert "PRIVATE KEY" in (tmp_path / f"{rented[1]}.pem").read_text()

    # It goes on with what happened since, to the last.
    lines = follow_until(world, tmp_path, f"{rented[1]} STATE_STOPPED: .*")
    assert all(re.match(f"{rented[1]} STATE_[A-Z]+: .", line) for line in lines), lines

    told = said(world, tmp_path, WATCH)
    price = r"0\.\d+ dollars per hour, which is \$0\.\d+/h\n"
    assert re.fullmatch(rf"STATE_PENDING: .*{price}.*\nSTATE_STOPPED: .*\nit has cost 0\.\d+ dollars\n", told, re.S), told
