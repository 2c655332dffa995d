"""Reading a recipe: what it must hold, and all its mistakes at once.

Belongs here: the keys and the checks of their values, the same for a file and for options of a command, which become a
document first (`recipe_flags.py`). Not here: the text of a file (`resources.triage.documents`), whether names are registered
(`resolution.py`). Source of the rules: triage recipes, schema version 1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from catalog.model import nearest
from mlcc_dagster.core.exceptions import InvalidInput
from mlcc_dagster.core.prove_documents import value_text
from mlcc_dagster.core.triage.names import INLINE_PREFIX, cell_name_mistake, too_long, variable_name_mistake
from mlcc_dagster.core.triage.recipe import (
    DEFAULT_THRESHOLD,
    SCHEMA_VERSION,
    Cell,
    Confound,
    EnvironmentChoice,
    Recipe,
    StopAfter,
    baseline_of,
)
from mlcc_dagster.core.triage.secrets import FromEnvironment, Setting, is_secret

MOST_TRIALS = 1_000_000
MOST_STEPS = 1_000_000_000
MOST_CELLS = 10_000

KEYS = (
    "schema_version",
    "ticket",
    "workload",
    "trials",
    "steps",
    "save_logs",
    "workload_config",
    "confound",
    "cells",
    "stop_after",
)
CELL_KEYS = ("name", "mitigations", "environment", "extra_env", "trials", "steps", "workload_config")

_OTHER_MODES = frozenset({"mode", "mitigation_axis", "diagnostic_axis"})
"""Keys of the recipes that other tools drive a command with; here the command stands behind `--`."""

_NOT_GIVEN = object()


def read_recipe(document: Any, *, source: str) -> Recipe:
    """Read a recipe from a plain document (of YAML, of JSON, or of `recipe_flags.document_of`).

    Raises `InvalidInput` (of `source`) carrying every mistake, each with a path such as `cells[2].mitigations`.
    """
    problems: list[str] = []
    recipe = examined(document, problems)
    if problems or recipe is None:
        raise InvalidInput(source, problems)
    return recipe


def examined(document: Any, problems: list[str]) -> Recipe | None:
    """Read a recipe and note every mistake in `problems`; none where the document is no recipe at all.

    With mistakes the recipe is what could be read, its cells at their places: fit for looking up its names, not for
    running.
    """
    reader = _Reader(problems)
    recipe = reader.recipe(document)
    if recipe is not None and recipe.cells and baseline_of(recipe) is None:
        reader.baseline(recipe)
    return recipe


@dataclass
class _Reader:
    """One pass over a document, noting every mistake instead of raising."""

    problems: list[str]

    def recipe(self, document: Any) -> Recipe | None:
        if not isinstance(document, dict):
            self.wrong(
                "the recipe", f"must be a mapping with schema_version, workload and cells, not {shown(document)}"
            )
            return None
        self._unknown("", document, KEYS)
        version = document.get("schema_version", _NOT_GIVEN)
        if version is _NOT_GIVEN:
            self.wrong("schema_version", f"is missing; write {SCHEMA_VERSION}")
        elif isinstance(version, bool) or version != SCHEMA_VERSION or not isinstance(version, int):
            self.wrong("schema_version", f"must be {SCHEMA_VERSION}, not {shown(version)}; update mlcc or the recipe")
        ticket = self._text(document, "", "ticket", required=False)
        workload = self._text(document, "", "workload")
        trials = self._count(document, "", "trials", MOST_TRIALS)
        steps = self._count(document, "", "steps", MOST_STEPS)
        config = self._config(document, "")
        confound = self._confound(document)
        stop_after = self._stop_after(document)
        save_logs = document.get("save_logs", False)
        if not isinstance(save_logs, bool):
            self.wrong("save_logs", f"must be true or false, not {shown(save_logs)}")
        cells = self._cells(document, trials or 1, steps or 1, config)
        return Recipe(
            workload=workload or "",
            trials=trials or 1,
            steps=steps or 1,
            cells=tuple(cells),
            ticket=ticket,
            confound=confound,
            stop_after=stop_after,
            save_logs=save_logs is True,
        )

    def baseline(self, recipe: Recipe) -> None:
        """Note why a recipe has no baseline."""
        names = [cell.name for cell in recipe.cells if cell.name]
        named = recipe.confound.baseline_cell
        self.wrong(
            "confound.baseline_cell",
            f"no cell is called '{named}'; {nearest(named, names)}"
            if named is not None
            else "nothing says which cell is the baseline; name one, call one baseline-…, or give one the mitigations [none]",
        )

    def wrong(self, path: str, what: str) -> None:
        problem = f"{path}: {what}"
        if problem not in self.problems:
            self.problems.append(problem)

    def _unknown(self, path: str, mapping: Mapping[Any, Any], known: Sequence[str]) -> None:
        for key in mapping:
            if key in known:
                continue
            if not path and key in _OTHER_MODES:
                self.wrong(f"{key}", "is of another kind of recipe; list cells instead, and give the command behind --")
            else:
                self.wrong(joined(path, str(key)), f"unknown key; {nearest(str(key), known)}")

    def _text(self, mapping: Mapping[str, Any], path: str, key: str, *, required: bool = True) -> str | None:
        value = mapping.get(key, _NOT_GIVEN)
        place = joined(path, key)
        if value is _NOT_GIVEN:
            if required:
                self.wrong(place, "is missing; give it a value")
            return None
        return self._line(place, value)

    def _line(self, place: str, value: Any) -> str | None:
        """Return a value that is one line of printable text and can be part of a file name."""
        if not isinstance(value, str):
            hint = "; put it in quotes" if isinstance(value, (bool, int, float)) else ""
            self.wrong(place, f"must be a text, not {shown(value)}{hint}")
        elif not value.strip():
            self.wrong(place, "is empty; give it a value")
        elif not value.isprintable():
            self.wrong(place, f"must be one line of printable text, not {shown(value)}")
        elif (long := too_long(value)) is not None:
            self.wrong(place, long)
        else:
            return value
        return None

    def _count(
        self, mapping: Mapping[str, Any], path: str, key: str, most: int, *, required: bool = True
    ) -> int | None:
        value = mapping.get(key, _NOT_GIVEN)
        place = joined(path, key)
        if value is _NOT_GIVEN:
            if required:
                self.wrong(place, "is missing; give it a value")
        elif isinstance(value, bool) or not isinstance(value, int):
            self.wrong(place, f"must be a whole number, not {shown(value)}")
        elif value < 1:
            self.wrong(place, f"must be at least 1, not {value}")
        elif value > most:
            self.wrong(place, f"must be at most {most:,}, not {value}")
        else:
            return value
        return None

    def _confound(self, document: Mapping[str, Any]) -> Confound:
        raw = document.get("confound", {})
        if not isinstance(raw, dict):
            self.wrong("confound", f"must be a mapping with threshold and baseline_cell, not {shown(raw)}")
            return Confound()
        self._unknown("confound", raw, ("threshold", "baseline_cell"))
        threshold = raw.get("threshold", DEFAULT_THRESHOLD)
        number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
        if not number or not math.isfinite(threshold):
            self.wrong("confound.threshold", f"must be a finite number, not {shown(threshold)}")
            threshold = DEFAULT_THRESHOLD
        elif threshold <= 0:
            self.wrong("confound.threshold", f"must be above 0, not {threshold:g}")
            threshold = DEFAULT_THRESHOLD
        return Confound(float(threshold), self._text(raw, "confound", "baseline_cell", required=False))

    def _stop_after(self, document: Mapping[str, Any]) -> StopAfter | None:
        if "stop_after" not in document:
            return None
        raw = document["stop_after"]
        if not isinstance(raw, dict):
            self.wrong("stop_after", f"must be a mapping with events and max_trials, not {shown(raw)}")
            return None
        self._unknown("stop_after", raw, ("events", "max_trials"))
        events = self._count(raw, "stop_after", "events", MOST_TRIALS)
        most = self._count(raw, "stop_after", "max_trials", MOST_TRIALS)
        if events is not None and most is not None and events > most:
            self.wrong("stop_after.events", f"{events} can never be seen in max_trials {most}; raise max_trials")
        return None if events is None or most is None else StopAfter(events, most)

    def _config(self, mapping: Mapping[str, Any], path: str) -> dict[str, Any]:
        raw = mapping.get("workload_config", {})
        place = joined(path, "workload_config")
        if not isinstance(raw, dict):
            self.wrong(place, f"must be a mapping of names to values, not {shown(raw)}")
            return {}
        if "steps" in raw:
            self.wrong(f"{place}.steps", "is a key of its own; write steps beside workload_config")
        for key, value in raw.items():
            if isinstance(value, str) and is_secret(key, value):
                self.wrong(
                    f"{place}.{key}", "looks like a secret, and the matrix shows it; give it as a variable in extra_env"
                )
        return {str(key): self._json(f"{place}.{key}", value) for key, value in raw.items()}

    def _json(self, place: str, value: Any) -> Any:
        if isinstance(value, dict):
            return MappingProxyType({str(key): self._json(f"{place}.{key}", each) for key, each in value.items()})
        if isinstance(value, list):
            return tuple(self._json(f"{place}[{n}]", each) for n, each in enumerate(value))
        if isinstance(value, float) and not math.isfinite(value):
            self.wrong(place, f"must be a finite number, not {value}")
        elif isinstance(value, str) and not all(character.isprintable() or character in "\n\t" for character in value):
            self.wrong(place, f"must be printable text, not {shown(value)}")
        return value

    def _cells(self, document: Mapping[str, Any], trials: int, steps: int, config: Mapping[str, Any]) -> list[Cell]:
        raw = document.get("cells", _NOT_GIVEN)
        if raw is _NOT_GIVEN:
            self.wrong("cells", "is missing; list at least one cell")
            return []
        if not isinstance(raw, list) or not raw:
            self.wrong("cells", f"must be a list of at least one cell, not {shown(raw)}")
            return []
        if len(raw) > MOST_CELLS:
            self.wrong("cells", f"has {len(raw):,} members; list at most {MOST_CELLS:,}")
            return []
        cells = [self._cell(f"cells[{n}]", each, trials, steps, config) for n, each in enumerate(raw)]
        self._distinct(cells)
        return cells

    def _distinct(self, cells: Sequence[Cell]) -> None:
        first: dict[str, int] = {}
        for number, cell in enumerate(cells):
            other = first.setdefault(cell.name.casefold(), number)
            if cell.name and other != number:
                clause = "is the name of" if cells[other].name == cell.name else "differs by letter case alone from"
                self.wrong(f"cells[{number}].name", f"'{cell.name}' {clause} cells[{other}]; give each its own")

    def _cell(self, path: str, raw: Any, trials: int, steps: int, config: Mapping[str, Any]) -> Cell:
        if not isinstance(raw, dict):
            self.wrong(path, f"must be a mapping with name, mitigations and environment, not a {kind(raw)}")
            return Cell("", (), EnvironmentChoice(""), trials, steps)
        self._unknown(path, raw, CELL_KEYS)
        return Cell(
            name=self._cell_name(raw, path),
            mitigations=self._mitigations(raw, path),
            environment=self._environment(raw, path),
            trials=self._count(raw, path, "trials", MOST_TRIALS, required=False) or trials,
            steps=self._count(raw, path, "steps", MOST_STEPS, required=False) or steps,
            extra_env=MappingProxyType(self._extra_env(raw, path)),
            config=MappingProxyType({**config, **self._config(raw, path)}),
        )

    def _cell_name(self, raw: Mapping[str, Any], path: str) -> str:
        value = raw.get("name", _NOT_GIVEN)
        place = f"{path}.name"
        if value is _NOT_GIVEN:
            self.wrong(place, "is missing; give it a value")
        elif not isinstance(value, str):
            hint = "; put it in quotes" if isinstance(value, (bool, int, float)) else ""
            self.wrong(place, f"must be a text, not {shown(value)}{hint}")
        elif (mistake := cell_name_mistake(value)) is not None:
            self.wrong(place, mistake)
        else:
            return value
        return ""

    def _mitigations(self, raw: Mapping[str, Any], path: str) -> tuple[str, ...]:
        values = raw.get("mitigations", _NOT_GIVEN)
        place = f"{path}.mitigations"
        if values is _NOT_GIVEN:
            self.wrong(place, "is missing; write [none] for no mitigation")
            return ()
        if not isinstance(values, list) or not values:
            self.wrong(
                place, f"must be a list of at least one name, not {shown(values)}; write [none] for no mitigation"
            )
            return ()
        names = [self._line(f"{place}[{n}]", value) for n, value in enumerate(values)]
        kept = [name for name in names if name is not None]
        for name in dict.fromkeys(name for name in kept if kept.count(name) > 1):
            self.wrong(place, f"names '{name}' twice; keep one")
        return tuple(kept)

    def _environment(self, raw: Mapping[str, Any], path: str) -> EnvironmentChoice:
        value = raw.get("environment", _NOT_GIVEN)
        place = f"{path}.environment"
        if value is _NOT_GIVEN:
            self.wrong(place, "is missing; name one such as local")
            return EnvironmentChoice("")
        if isinstance(value, dict):
            self._unknown(place, value, ("docker",))
            if "docker" not in value:
                self.wrong(place, "must be the name of an environment or {docker: IMAGE}")
                return EnvironmentChoice("")
            docker = value["docker"]
            if not is_reference(docker):
                self.wrong(f"{place}.docker", f"must be an image reference, not {shown(docker)}")
                return EnvironmentChoice("")
            return EnvironmentChoice.inline(docker)
        if not isinstance(value, str):
            self.wrong(place, f"must be the name of an environment or {{docker: IMAGE}}, not {shown(value)}")
            return EnvironmentChoice("")
        if value.startswith(INLINE_PREFIX):
            self.wrong(place, f"'{value}' is how an image of a cell's own is named; write {{docker: IMAGE}}")
            return EnvironmentChoice("")
        return EnvironmentChoice(self._line(place, value) or "")

    def _extra_env(self, raw: Mapping[str, Any], path: str) -> dict[str, Setting]:
        values = raw.get("extra_env", {})
        place = f"{path}.extra_env"
        if not isinstance(values, dict):
            self.wrong(place, f"must be a mapping of variables to texts, not a {kind(values)}")
            return {}
        return settings(values, place, self.problems)


def settings(values: Mapping[Any, Any], place: str, problems: list[str]) -> dict[str, Setting]:
    """Read a mapping of environment variables to texts or `{from_environment: NAME}`; mistakes go to `problems` with their
    path, without any value, since it may be a secret."""
    read: dict[str, Setting] = {}
    for name, value in values.items():
        at = f"{place}.{name}"
        if (mistake := variable_name_mistake(str(name))) is not None:
            problems.append(f"{place}: {mistake}")
        elif isinstance(value, dict):
            source = value.get("from_environment")
            if set(value) != {"from_environment"} or not isinstance(source, str):
                problems.append(f"{at}: must be a text or {{from_environment: NAME}}")
            elif (mistake := variable_name_mistake(source)) is not None:
                problems.append(f"{at}.from_environment: {mistake}")
            else:
                read[str(name)] = FromEnvironment(source)
        elif not isinstance(value, str):
            problems.append(f"{at}: must be a text, not a {kind(value)}; put it in quotes")
        elif "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            problems.append(f"{at}: holds a character that no environment variable can have; remove it")
        else:
            read[str(name)] = value
    return read


def is_reference(docker: Any) -> bool:
    """Whether a value can be a reference of a container image: printable text without spaces."""
    return isinstance(docker, str) and bool(docker) and docker.isprintable() and " " not in docker


def joined(path: str, key: str) -> str:
    """Return the path of a key below a path, `key` alone at the top."""
    return f"{path}.{key}" if path else key


def shown(value: Any) -> str:
    """Return a value of a document as a person reads it; null is `nothing`."""
    return "nothing" if value is None else value_text(value)


def kind(value: Any) -> str:
    """Return what sort of value something is, in place of the value itself."""
    for types, word in (
        (bool, "truth value"),
        ((int, float), "number"),
        (str, "text"),
        (list, "list"),
        (dict, "mapping"),
    ):
        if isinstance(value, types):
            return word
    return "null"
