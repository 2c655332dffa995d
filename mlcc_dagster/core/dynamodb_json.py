"""Reading what DynamoDB exports: its JSON, in which every value says its type.

Belongs here: the two forms of an export and the types. Not here: what an item means (`ci_records.py`).

`aws dynamodb scan` writes one document, `{"Items": [{"configId": {"S": "..."}}]}`; an export to S3 has one
`{"Item": {...}}` a line.
"""

import json
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

Item = tuple[str, dict[str, Any]]
"""Where an item stands, such as `Items[3]` or `line 4: Item`, and its attributes as plain values."""


def read_items(text: str, problems: list[str]) -> list[Item]:
    """Return the items of an export in their order. Every mistake is added to `problems` with its path; an attribute with a
    mistake is left out."""
    try:
        return [(path, _plain_item(item, path, problems)) for path, item in _typed_items(text, problems)]
    except RecursionError:
        problems.append("the document: is nested too deeply; no value of an export is")
        return []


def _typed_items(text: str, problems: list[str]) -> list[tuple[str, Any]]:
    text = text.removeprefix("\ufeff")
    # only a line feed ends a line of JSON: other separators may stand in a text as they are
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        problems.append("the document: is empty; export the table again")
        return []
    if any(_is_line_of_items(line) for _, line in lines):
        return _lines_of_items(lines, problems)
    try:
        document = json.loads(text, parse_int=whole_or_float)
    except ValueError as error:
        where = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "the document"
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        problems.append(f"{where}: is no JSON ({what}); export the table again")
        return []
    items = document.get("Items") if isinstance(document, dict) else None
    if not isinstance(items, list):
        problems.append(
            'the document: must be {"Items": [...]}, as `aws dynamodb scan` writes it, or one {"Item": {...}} a line, as an '
            "export to S3 does"
        )
        return []
    return [(f"Items[{position}]", item) for position, item in enumerate(items)]


def _is_line_of_items(line: str) -> bool:
    if '"Item"' not in line:
        return False
    try:
        document = json.loads(line, parse_int=whole_or_float)
    except ValueError:
        return False
    return isinstance(document, dict) and "Item" in document


def _lines_of_items(lines: list[tuple[int, str]], problems: list[str]) -> list[tuple[str, Any]]:
    items = []
    for number, line in lines:
        try:
            document = json.loads(line, parse_int=whole_or_float)
        except ValueError as error:
            problems.append(f"line {number}: is no JSON ({getattr(error, 'msg', error)}); export the table again")
            continue
        if not isinstance(document, dict) or set(document) != {"Item"}:
            problems.append(f'line {number}: must be {{"Item": {{...}}}} and nothing else')
            continue
        items.append((f"line {number}: Item", document["Item"]))
    return items


def _plain_item(item: Any, path: str, problems: list[str]) -> dict[str, Any]:
    if not isinstance(item, dict):
        problems.append(f"{path}: must be an object of attributes, not {type(item).__name__}")
        return {}
    return _plain_map(item, path, problems)


def _plain_map(attributes: Mapping[str, Any], path: str, problems: list[str]) -> dict[str, Any]:
    plain = {name: _plain(value, f"{path}.{name}", problems) for name, value in attributes.items()}
    return {name: value for name, value in plain.items() if value is not _BROKEN}


_BROKEN = object()
"""Stands for a value with a mistake, which is among the problems; a null is a value."""


def _plain(value: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        problems.append(f'{path}: must be a value with its type, such as {{"S": "text"}}')
        return _BROKEN
    ((kind, content),) = value.items()
    if kind == "M" and isinstance(content, dict):
        return _plain_map(content, path, problems)
    if kind == "L" and isinstance(content, list):
        found = [_plain(each, f"{path}[{position}]", problems) for position, each in enumerate(content)]
        return [each for each in found if each is not _BROKEN]
    read = _TYPES.get(kind)
    if read is None:
        known = ", ".join([*_TYPES, "M", "L"])
        problems.append(
            f"{path}: '{kind}' with {_shown(content)} is no type of DynamoDB with its value; known are {known}"
        )
        return _BROKEN
    try:
        return read(content)
    except (ValueError, TypeError):
        problems.append(f"{path}: {_shown(content)} is no value of type {kind}; correct it")
        return _BROKEN


def whole_or_float(digits: str) -> int | float:
    """Read a whole number of JSON: Python refuses thousands of digits, and no number of a record has 16."""
    return int(digits) if len(digits) < 16 else float(digits)


def _text(content: Any) -> str:
    if not isinstance(content, str):
        raise ValueError(content)
    content.encode("utf-8")  # half a character is a ValueError too
    return content


def _number(content: Any) -> int | float:
    number = float(_text(content))
    if not math.isfinite(number) or "_" in content:
        raise ValueError(content)
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def _flag(content: Any) -> bool:
    if not isinstance(content, bool):
        raise ValueError(content)
    return content


def _texts(content: Any) -> list[str]:
    return sorted(_text(each) for each in _members(content))


def _numbers(content: Any) -> list[int | float]:
    return sorted(_number(each) for each in _members(content))


def _members(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise ValueError(content)
    return content


def _shown(content: Any) -> str:
    text = repr(content)
    return text if len(text) <= 60 else f"{text[:57]}..."


_TYPES: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "S": _text,
        "N": _number,
        "BOOL": _flag,
        "NULL": lambda content: None,
        "B": _text,
        "SS": _texts,
        "NS": _numbers,
        "BS": _texts,
    }
)
"""How the content of each type is read. Sets have no order, so theirs is by value; bytes stay base64 text."""
