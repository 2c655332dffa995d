"""The progress of a round on standard error: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from mlcc_dagster.cli import console
from resources.platform import Platform
from resources.progress import Event, RunEnded, StageBegan

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
    @property
    def expected_failure(self) -> str | None: ...


class ProgressView:
    """Shows stages as they begin and configurations as they end. Silent with `shown=False`."""

    def __init__(self, platform: Platform, targets: Sequence[Named], *, shown: bool) -> None:
        self._platform = platform
        self._targets = {target.config_id: target for target in targets}
        self._width = max((len(target.name) for target in targets), default=0)
        self._shown = shown
        self._notes: set[str] = set()
        self._bar = None
        self._task = None
        self._open = ExitStack()
        self._console = console.err()

    def __enter__(self) -> "ProgressView":
        self._console = self._open.enter_context(console.undiverted_err())
        if self._shown and self._console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("starting", total=len(self._targets))
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._console = console.err()
        self._open.close()

    def expect(self, target: Named) -> None:
        """Add a target that was not known at the start: its lines then carry its name."""
        self._targets[target.config_id] = target
        self._width = max(self._width, len(target.name))
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=len(self._targets))

    def note(self, text: str, *, once: bool = False) -> None:
        """Print one line beside the bar; with `once` only the first time."""
        if not self._shown or (once and text in self._notes):
            return
        self._notes.add(text)
        self._console.print(text, markup=False)

    def listener(self, event: Event) -> None:
        """Take one event of a run."""
        if not self._shown:
            return
        if isinstance(event, RunEnded):
            self.note(self._line(event))
        if self._bar is None or self._task is None:
            return
        if isinstance(event, RunEnded):
            self._bar.advance(self._task)
        elif isinstance(event, StageBegan) and event.outcome.skip_reason(event.stage) is None:
            name = self._name(event.outcome.claim.config_id)
            self._bar.update(self._task, description=f"{name}: {event.stage.value}")

    def _name(self, key: str) -> str:
        return self._targets[key].name if key in self._targets else key

    def _line(self, event: RunEnded) -> str:
        """Say how one run ended: its mark, name and seconds, and why where it was not proven."""
        outcome, sentence = event.outcome, event.sentence
        # A replayed stage took no time of ours; what it says it took is what the table says too.
        seconds = sum(float(r.outputs.get("virtual_seconds", r.seconds)) for r in outcome.results) if outcome else 0.0
        mark = {"concluded": "failed", "lost": "skipped", "interrupted": "stopped"}[event.how]
        if event.how == "concluded" and outcome is not None:
            if outcome.run_status == "pass" and outcome.tested:
                mark, sentence = "proven", str(outcome.configuration)
            target = self._targets.get(event.config_id)
            if target is not None and target.expected_failure is not None:
                sentence += f" (its entry expects {target.expected_failure})"
        name = self._name(event.config_id)
        # a gap has no other name than its configuration
        told = "" if sentence == name else f"  {sentence}"
        return f"{mark:8}{name:{self._width}} {seconds:6.1f} s{told}"
