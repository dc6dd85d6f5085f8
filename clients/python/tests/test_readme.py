"""What the README shows works as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from world import World

FOLDER = Path(__file__).parents[1]


def test_the_first_program_does_the_whole_job(world: World, tmp_path: Path) -> None:
    program = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.S)[0]
    assert len(program.strip().splitlines()) <= 12
    env = os.environ | {"GPU_SHOPPER_URL": world.proxy.url, "PYTHONPATH": str(FOLDER / "src")}
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    said = re.fullmatch(r"ssh -p \d+ \S+@127\.0\.0\.1 -i (\S+\.pem)\nit has cost 0\.\d+ dollars\n", ran.stdout)
    assert said, ran.stdout
    assert "PRIVATE KEY" in (tmp_path / said[1]).read_text()
