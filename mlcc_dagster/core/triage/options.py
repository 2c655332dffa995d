"""What a run does beyond trying the cells of its recipe.

Belongs here: the choices and their JSON form. Not here: what they do (`delay_control.py`, `adaptive.py`, `minimal_sets.py`).
They are flags of the runner and no keys of a recipe, so that a recipe of schema version 1 stays one that every reader of that
version takes; a run's folder remembers them in `matrix.json`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RunOptions:
    """`delay_control`: the baseline is slowed as much as a slower cell is, and tried too. `adaptive`: trials go to cells that
    are undecided. `minimize`: parts of a stack of mitigations are tried until the smallest that does the same is known."""

    delay_control: bool = False
    adaptive: bool = False
    minimize: bool = False

    def to_json(self) -> dict[str, bool]:
        """Return them as JSON values."""
        return asdict(self)

    def flags(self) -> list[str]:
        """Return the options of the command that ask for the same."""
        return [f"--{name.replace('_', '-')}" for name, chosen in asdict(self).items() if chosen]

    def joined(self, others: "RunOptions") -> "RunOptions":
        """Return what either asks for: a run that is gone on with may be asked for more, never for less."""
        return RunOptions(
            delay_control=self.delay_control or others.delay_control,
            adaptive=self.adaptive or others.adaptive,
            minimize=self.minimize or others.minimize,
        )


NO_OPTIONS = RunOptions()


def read_options(document: Any) -> RunOptions:
    """Read back what `RunOptions.to_json` wrote; a folder without it was run without any."""
    said: Mapping[str, Any] = document if isinstance(document, Mapping) else {}
    return RunOptions(
        delay_control=said.get("delay_control") is True,
        adaptive=said.get("adaptive") is True,
        minimize=said.get("minimize") is True,
    )
