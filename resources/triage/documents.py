"""Texts of recipes and sidecars as plain documents, and back.

Belongs here: YAML and JSON, with every key once. Not here: what a document must hold (`core.triage.recipe_reading`,
`core.triage.sidecars`), files (`recipe_files.py`).
"""

import json
import re
from typing import Any

import yaml

from mlcc_dagster.core.triage.recipe import Recipe, plain, to_document

MOST_NODES = 200_000
"""Values of one document; a few lines of YAML can stand for more than any memory holds."""

DEEPEST = 50

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_TRUE = frozenset({"true", "yes", "on"})


def plain_document(text: str, problems: list[str]) -> Any:
    """Return the document of a JSON or YAML text; none, with the reason in `problems`, where it is neither."""
    if text.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        tried: list[str] = []
        document = json_document(text, tried)
        if not tried:
            return document
        # braces are YAML too: its word is heard before a mistake is called one, unless a key stands twice
        document = _yaml_document(text, yaml_problems := [])
        problems += tried if yaml_problems else []
        return None if yaml_problems else document
    return _yaml_document(text, problems)


def json_document(text: str, problems: list[str]) -> Any:
    """Return the document of a JSON text; none, with the reason in `problems`, where it is none. No value is shown."""

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # the last of two equal keys would win without a word
        names = [name for name, _ in pairs]
        for name in sorted({name for name in names if names.count(name) > 1}):
            problems.append(f"key '{name}' is given twice in one object; keep one")
        return dict(pairs)

    def unknown(word: str) -> None:
        problems.append(f"{word} is no number of JSON; write a finite one")

    try:
        return json.loads(
            text.removeprefix("\ufeff"), object_pairs_hook=distinct, parse_constant=unknown, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        problems.append(f"line {error.lineno}: is no JSON ({error.msg}); correct the text there")
    except RecursionError:
        problems.append("the document: is nested too deeply; write it flat")
    return None


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe as YAML that reads as the same recipe; the same recipe, the same bytes."""
    return yaml.dump(
        plain(to_document(recipe)),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=120,
    )


class _Dumper(yaml.SafeDumper):
    """Writes texts with characters that are no print in double quotes: outside them YAML folds some into spaces."""


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(f"{_TAG}str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _text_node)


def _whole(digits: str) -> int | float:
    # Python refuses to read thousands of digits as a whole number
    return int(digits) if len(digits) < 19 else float(digits)


def _yaml_document(text: str, problems: list[str]) -> Any:
    try:
        # before it is composed: that goes down as deep as the text does and would end the process
        if _depth_of(text) > DEEPEST:
            problems.append("the document: is nested too deeply; write it flat")
            return None
        node = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark else "the document"
        reason = getattr(error, "problem", None) or "it cannot be read"
        problems.append(f"{line}: is no YAML ({reason}); correct the text there")
        return None
    return None if node is None else _Values(problems).of(node, 0)


def _depth_of(text: str) -> int:
    depth = deepest = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        deepest = max(deepest, depth)
        if deepest > DEEPEST:
            break
    return deepest


class _Values:
    """Reads the node tree of YAML itself: PyYAML's constructor keeps the last of two equal keys without a word, makes dates
    of texts, and follows references without end."""

    def __init__(self, problems: list[str]) -> None:
        self._problems = problems
        self._nodes = 0

    def of(self, node: yaml.Node, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MOST_NODES or depth > DEEPEST:
            problem = "the document: is too large or refers to itself; write it out with fewer references"
            if problem not in self._problems:
                self._problems.append(problem)
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.of(each, depth + 1) for each in node.value if self._nodes <= MOST_NODES]
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._problems.append(f"line {line}: a key must be a text; correct the text there")
                continue
            key = str(key_node.value)
            if key in mapping:
                self._problems.append(f"line {line}: key '{key}' is given twice; keep one")
            mapping[key] = self.of(value_node, depth + 1)
            if self._nodes > MOST_NODES:
                break
        return mapping


def _scalar(node: yaml.Node) -> Any:
    text: str = node.value
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text.lower() in _TRUE
        case "int" if re.fullmatch(r"[-+]?[0-9][0-9_]*", text):
            return _whole(text.replace("_", ""))
        case "float" if ":" not in text:
            return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan").replace(".NaN", "nan"))
        case _:
            return text
