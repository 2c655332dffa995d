"""Reading YAML into plain values, and plain values into fields, with every mistake collected instead of raised.

Belongs here: the mechanics, knowing no file by name. Not here: what a file must contain (`loader.py`).
"""

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from catalog.model import nearest

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_TRUE = frozenset({"true", "yes", "on"})


def read_yaml(path: Path, problems: list[str]) -> Any:
    """Return the document of a file as dicts, lists, texts, numbers, booleans and None; None where it cannot be read.

    Reads the node tree itself: PyYAML's constructor keeps the last of two equal keys without a word, which would hide
    an id given twice, and takes three times as long. Dates stay texts.
    """
    try:
        node = yaml.compose(path.read_text("utf-8"), Loader=_Loader)
    except FileNotFoundError:
        problems.append(f"{path.name}: the file is missing; put it back")
        return None
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path.name}: cannot be read ({error}); make it a readable UTF-8 file")
        return None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        problems.append(f"{path.name}: is no YAML{line} ({reason}); correct the text there")
        return None
    return _value(node, path.name, problems) if node is not None else None


def _value(node: yaml.Node, file: str, problems: list[str]) -> Any:
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            if key in mapping:
                problems.append(f"{file}: key '{key}' is given twice (line {key_node.start_mark.line + 1}); keep one")
            mapping[key] = _value(value_node, file, problems)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, file, problems) for each in node.value]
    text: str = node.value
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text.lower() in _TRUE
        case "int" if re.fullmatch(r"[-+]?[0-9][0-9_]*", text):
            return int(text)
        case "float" if ":" not in text:
            return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        case _:
            return text


class Fields:
    """One mapping of a file while it is being read. Each method takes one key, notes a mistake with its path and
    returns a stand-in, so that one pass finds all mistakes; `close` reports the keys that nobody asked for."""

    def __init__(
        self,
        raw: Any,
        path: str,
        problems: list[str],
        *,
        defaults: Mapping[str, Any] | None = None,
        defaults_path: str = "",
    ) -> None:
        self._problems = problems
        self._path = path
        self._defaults_path = defaults_path
        self._own: Mapping[str, Any] = raw if isinstance(raw, dict) else {}
        self._values: Mapping[str, Any] = {**(defaults or {}), **self._own}
        self._asked: list[str] = []
        self._before = len(problems)
        self._usable = isinstance(raw, dict)
        if not self._usable:
            problems.append(f"{path.rstrip(': ')}: must be a mapping of field names to values, not {_shown(raw)}")

    @property
    def sound(self) -> bool:
        """Whether no mistake was found in this mapping so far."""
        return len(self._problems) == self._before

    def at(self, key: str) -> str:
        """Return the path of a key, that of the file's defaults where the value comes from there."""
        base = self._path if key in self._own or key not in self._values else self._defaults_path
        return f"{base}{'' if base.endswith(' ') else '.'}{key}"

    def wrong(self, key: str, what: str) -> None:
        """Note a mistake at a key; `what` says what would be right."""
        self._problems.append(f"{self.at(key)}: {what}")

    def raw(self, key: str, *, required: bool = True) -> Any:
        """Return the value as it stands, None where absent; absence of a required key is a mistake."""
        self._asked.append(key)
        if key not in self._values:
            if required and self._usable:
                self.wrong(key, "is missing; give it a value")
            return None
        return self._values[key]

    def text(
        self,
        key: str,
        *,
        required: bool = True,
        nullable: bool = False,
        among: Collection[str] | None = None,
        pattern: str | None = None,
    ) -> Any:
        """Return a text, checked against a vocabulary or a pattern; None where it may be absent or null and is."""
        value = self.raw(key, required=required)
        if value is None:
            if key in self._values and not nullable:
                self.wrong(key, "must be a text, not null")
            return None
        if not isinstance(value, str) or not value:
            self.wrong(key, f"must be a text, not {_shown(value)}")
            return None
        if among is not None and value not in among:
            self.wrong(key, f"'{value}' is not known; {nearest(value, among)}")
            return None
        if pattern is not None and not re.fullmatch(pattern, value):
            self.wrong(key, f"'{value}' must match {pattern}")
            return None
        return value

    def number(
        self,
        key: str,
        *,
        required: bool = True,
        nullable: bool = False,
        whole: bool = False,
        at_least: float | None = None,
        above: float | None = None,
        at_most: float | None = None,
    ) -> Any:
        """Return a number (an int where `whole`) within its bounds; None where it may be absent or null and is."""
        value = self.raw(key, required=required)
        if value is None:
            if key in self._values and not nullable:
                self.wrong(key, "must be a number, not null")
            return None
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or value != value:
            self.wrong(key, f"must be a {'whole ' if whole else ''}number, not {_shown(value)}")
            return None
        if at_least is not None and value < at_least:
            self.wrong(key, f"must be at least {at_least:g}, not {value:g}")
            return None
        if above is not None and value <= above:
            self.wrong(key, f"must be above {above:g}, not {value:g}")
            return None
        if at_most is not None and value > at_most:
            self.wrong(key, f"must be at most {at_most:g}, not {_shown(value)}")
            return None
        return value

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """Return true or false; without a default the key is required."""
        value = self.raw(key, required=default is None)
        if key not in self._values:
            return bool(default)
        if not isinstance(value, bool):
            self.wrong(key, f"must be true or false, not {_shown(value)}")
            return False
        return value

    def texts(self, key: str, *, required: bool = True, among: Collection[str] | None = None) -> tuple[str, ...]:
        """Return a list of distinct texts, empty where it may be absent and is."""
        return tuple(
            value
            for value in self._members(key, required=required, kind=str, noun="text")
            if self._member(key, value, among)
        )

    def whole_numbers(self, key: str, *, required: bool = True, at_most: int) -> tuple[int, ...]:
        """Return a list of distinct whole numbers from 1 to `at_most`, empty where it may be absent and is."""
        values = self._members(key, required=required, kind=int, noun="whole number")
        if any(not 0 < value <= at_most for value in values):
            self.wrong(key, f"must hold numbers from 1 to {at_most} only, not {_shown(list(values))}")
        return values

    def setting(self, key: str) -> str | int | None:
        """Return a text, a whole number or null."""
        value = self.raw(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (str, int))):
            self.wrong(key, f"must be a text, a whole number or null, not {_shown(value)}")
            return None
        return value

    def settings(self, key: str) -> tuple[str | int, ...]:
        """Return a list of at least one distinct text or of distinct whole numbers, not both."""
        value = self.raw(key)
        kinds = {type(each) for each in value} if isinstance(value, list) else set()
        if kinds not in ({str}, {int}):
            self.wrong(key, f"must be a list of texts or of whole numbers, not {_shown(value)}")
            return ()
        if len(set(value)) < len(value):
            self.wrong(key, f"names something twice in {value}; keep one of each")
        return tuple(value)

    def pair(self, key: str) -> tuple[float, float]:
        """Return a range written as two numbers, low and high, both above 0."""
        value = self.raw(key)
        sound = isinstance(value, list) and len(value) == 2 and all(isinstance(v, (int, float)) for v in value)
        if not sound or not 0 < value[0] <= value[1]:
            if key in self._values:
                self.wrong(key, f"must be two numbers above 0, low and high, not {_shown(value)}")
            return (0.0, 0.0)
        return (float(value[0]), float(value[1]))

    def text_mapping(self, key: str) -> dict[str, str]:
        """Return a mapping of texts to texts, whole numbers written out; empty where absent."""
        value = self.raw(key, required=False)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.wrong(key, f"must be a mapping of names to texts, not {_shown(value)}")
            return {}
        for name, each in value.items():
            if isinstance(each, bool) or not isinstance(each, (str, int)):
                self.wrong(key, f"'{name}' must be a text, not {_shown(each)}; put it in quotes")
        return {name: str(each) for name, each in value.items()}

    def inner(self, key: str, *, required: bool = True) -> "Fields | None":
        """Return the mapping under a key for reading, None where it may be absent or null and is."""
        value = self.raw(key, required=required)
        if value is None:
            return None
        return Fields(value, self.at(key), self._problems)

    def close(self) -> None:
        """Report every key that was not asked for, with the nearest known one."""
        for key in self._own:
            if key not in self._asked:
                self._problems.append(f"{self.at(key)}: unknown field; {nearest(key, dict.fromkeys(self._asked))}")

    def _members(self, key: str, *, required: bool, kind: type, noun: str) -> tuple[Any, ...]:
        value = self.raw(key, required=required)
        if value is None:
            if key in self._values:
                self.wrong(key, f"must be a list of {noun}s, not null")
            return ()
        if not isinstance(value, list) or any(isinstance(v, bool) or not isinstance(v, kind) for v in value):
            self.wrong(key, f"must be a list of {noun}s, not {_shown(value)}")
            return ()
        if len(set(value)) < len(value):
            self.wrong(key, f"names something twice in {value}; keep one of each")
        return tuple(value)

    def _member(self, key: str, value: str, among: Collection[str] | None) -> bool:
        if among is not None and value not in among:
            self.wrong(key, f"'{value}' is not known; {nearest(value, among)}")
            return False
        return True


def records(document: Any, key: str, base: str, problems: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield (path, raw mapping) for each member of the list under a key.

    `base` is the path before the key: with `instances.yaml: ` the paths are `instances.yaml: instances[2]`.
    """
    members = document.get(key) if isinstance(document, dict) else None
    if not isinstance(members, list):
        problems.append(f"{base}{key}: must be a list, not {_shown(members)}")
        return
    for position, member in enumerate(members):
        yield f"{base}{key}[{position}]", member


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
