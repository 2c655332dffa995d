"""The README's tour: runs its commands on a fresh home and writes their real output below them.

Belongs here: finding the marked blocks, running them, writing them. A test runs the same blocks, so that none goes stale.
Run it as `python docs/tour.py`; it takes some minutes.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
STEP = re.compile(r"```sh tour\n(?P<commands>.*?)```\n```text\n(?P<output>.*?)```\n", re.DOTALL)
SHOWN_HOME = "/home/me/.mlcc"
"""What stands in the README for the folder that a tour was made in."""


def steps(page: str) -> Iterator[list[str]]:
    """Yield the commands of each step, in order."""
    for step in STEP.finditer(page):
        yield step["commands"].splitlines()


def run(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run one command of the tour as a person would in a shell, on `home`; both streams come as one text."""
    environment = os.environ | {"MLCC_HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        command,
        shell=True,
        env=environment,
        cwd=home.parent,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def refreshed(page: str, home: Path) -> str:
    """Return the page with the output of every step as it is now.

    Raises `RuntimeError` with the output of a command that fails.
    """

    def again(step: re.Match[str]) -> str:
        outputs = []
        for command in step["commands"].splitlines():
            done = run(command, home)
            if done.returncode:
                raise RuntimeError(f"`{command}` ended with {done.returncode}; mend it and run again:\n{done.stdout}")
            outputs.append(done.stdout.replace(str(home), SHOWN_HOME))
        return f"```sh tour\n{step['commands']}```\n```text\n{chr(10).join(outputs)}```\n"

    return STEP.sub(again, page)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        README.write_text(refreshed(README.read_text("utf-8"), Path(folder) / ".mlcc"), "utf-8")
