"""The progress of a round on standard error: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from mlcc_dagster.cli import console
from mlcc_dagster.core.outcome import StageStatus
from resources.platform import Platform
from resources.progress import Event, RunEnded, StageBegan, StageEnded

if TYPE_CHECKING:
    from mlcc_dagster.core.configuration import Configuration


class Named(Protocol):
    """What a view needs of a target."""

    @property
    def config_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def configuration(self) -> "Configuration": ...


class ProgressView:
    """Shows stages as they begin and configurations as they end. Silent with `shown=False`."""

    def __init__(self, platform: Platform, targets: Sequence[Named], *, shown: bool) -> None:
        self._platform = platform
        self._names = {target.config_id: target.name for target in targets}
        self._shown = shown
        self._notes: set[str] = set()
        self._bar = None
        self._task = None

    def __enter__(self) -> "ProgressView":
        if self._shown and console.err().is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=console.err(), transient=True)
            self._task = self._bar.add_task("starting", total=len(self._names))
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str, *, once: bool = False) -> None:
        """Print one line beside the bar; with `once` only the first time."""
        if not self._shown or (once and text in self._notes):
            return
        self._notes.add(text)
        console.err().print(text, markup=False)

    def listener(self, event: Event) -> None:
        """Take one event of a run."""
        if not self._shown:
            return
        match event:
            case StageBegan(outcome=outcome, stage=stage):
                name = self._names.get(outcome.claim.config_id, outcome.claim.config_id)
                if self._bar is not None and self._task is not None and outcome.skip_reason(stage) is None:
                    self._bar.update(self._task, description=f"{name}: {stage.value}")
            case StageEnded(outcome=outcome, result=result):
                if result.status is StageStatus.FAIL:
                    name = self._names.get(outcome.claim.config_id, outcome.claim.config_id)
                    self.note(f"  {name}: {result.stage.value} failed after {result.seconds:.1f} s")
            case RunEnded(config_id=key, how=how, sentence=sentence, outcome=outcome):
                seconds = sum(r.seconds for r in outcome.results) if outcome else 0.0
                mark = {"concluded": "done", "lost": "skipped", "interrupted": "stopped"}[how]
                self.note(f"{mark:8}{self._names.get(key, key)}  {seconds:5.1f} s  {sentence}")
                if self._bar is not None and self._task is not None:
                    self._bar.advance(self._task)
