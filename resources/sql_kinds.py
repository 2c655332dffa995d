"""What kind of value each part of a statement is: whole number, text, date and so on, as Athena types it.

Belongs here: finding the kinds, from the columns of the tables and the text alone. Not here: what follows from them
(`sql_translation.py` and what it uses). Where a kind cannot be told it is `unknown`, and nothing may rest on it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from resources.sql_statements import Relations, schema_of
from resources.sql_vocabulary import RETURNS

if TYPE_CHECKING:
    from sqlglot import exp

UNKNOWN = "unknown"
FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "whole": "number",
        "float": "number",
        "decimal": "number",
        "text": "varchar",
        "boolean": "boolean",
        "date": "date",
        "timestamp": "date",
    }
)
"""Kinds that may be compared with each other, by kind; those that are not named here are not told apart."""

_PLACE = "place"


@dataclass(frozen=True)
class Kinds:
    """The kinds of the parts of one numbered tree."""

    types: "Mapping[int, exp.DataType]"

    def of(self, node: "exp.Expr | None") -> str:
        """Return the kind of a part: whole, float, decimal, text, boolean, date, timestamp, json, array, map, row or unknown."""
        from sqlglot import exp

        if node is None:
            return UNKNOWN
        found = self.type_of(node)
        if found is None:
            return UNKNOWN
        name = found.this.name
        if found.this in exp.DataType.INTEGER_TYPES:
            return "whole"
        if found.this in exp.DataType.FLOAT_TYPES:
            return "float"
        if found.this in exp.DataType.TEXT_TYPES:
            return "text"
        if name.startswith(("TIMESTAMP", "DATETIME")):
            return "timestamp"
        others = {"DECIMAL", "BOOLEAN", "DATE", "JSON", "MAP"}
        return (
            name.lower() if name in others else {"ARRAY": "array", "LIST": "array", "STRUCT": "row"}.get(name, UNKNOWN)
        )

    def keep(self, node: "exp.Expr", made: "exp.Expr") -> None:
        """Let what stands in the place of a part be known to be of its kind."""
        if _PLACE in node.meta:
            made.meta[_PLACE] = node.meta[_PLACE]

    def type_of(self, node: "exp.Expr") -> "exp.DataType | None":
        """Return the type of a part with its parameters, none where it is not known."""
        return self.types.get(node.meta.get(_PLACE, -1))


def kinds_of(tree: "exp.Query", relations: Relations) -> Kinds:
    """Number the parts of a tree, which is marked so, and find their kinds."""
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.annotate_types import annotate_types
    from sqlglot.optimizer.qualify import qualify

    for place, node in enumerate(tree.walk()):
        node.meta[_PLACE] = place
    typed = tree.copy()
    for node in list(typed.walk()):
        told = _told(node)
        if told is not None:
            # In its place, under the same number: what sqlglot would say of the part itself is another type, or none.
            told.meta[_PLACE] = node.meta[_PLACE]
            node.replace(told)
    schema = schema_of(relations)
    try:
        typed = annotate_types(
            qualify(typed, schema=schema, dialect="athena", validate_qualify_columns=False),
            schema=schema,
            dialect="athena",
        )
    except SqlglotError:
        return Kinds({})
    types: dict[int, exp.DataType] = {}
    for node in typed.walk():
        place, found = node.meta.get(_PLACE), node.type
        # Walking goes inward, so that the outer of two parts of one number is the one that counts.
        if place is not None and found is not None and found.this != exp.DataType.Type.UNKNOWN:
            types.setdefault(place, found)
    _order_as_selected(tree, types)
    return Kinds(types)


def _order_as_selected(tree: "exp.Query", types: "dict[int, exp.DataType]") -> None:
    """Let the parts of an ORDER BY that repeats a selected expression be of the kinds that they are of there. Where it does,
    sqlglot takes the column's name in its place; and a rule that knew less would make of one expression two, of which only one
    is grouped by."""
    from sqlglot import exp

    for select in tree.find_all(exp.Select):
        order = select.args.get("order")
        for ordered in order.expressions if order is not None else ():
            for chosen in (each.unalias() for each in select.expressions):
                if chosen == ordered.this:
                    for there, here in zip(chosen.walk(), ordered.this.walk(), strict=True):
                        if there.meta[_PLACE] in types:
                            types.setdefault(here.meta[_PLACE], types[there.meta[_PLACE]])


_OF_ITS_ARGUMENT = ("ApproxQuantile", "ArgMax", "ArgMin", "TimestampTrunc", "Trunc", "Try")
_TYPED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("JSONExtractScalar", "Pad", "RegexpExtract", "RegexpReplace", "Replace"), "VARCHAR"),
        **dict.fromkeys(("RegrIntercept", "RegrSlope", "TimeToUnix"), "DOUBLE"),
        "Grouping": "INT",
        "JSONExtract": "JSON",
        "RegexpExtractAll": "ARRAY(VARCHAR)",
        "Split": "ARRAY(VARCHAR)",
    }
)


def _told(node: "exp.Expr") -> "exp.Expr | None":
    """Return what has the right type for sqlglot in the place of a part, none where the part has."""
    from sqlglot import exp

    kind = type(node).__name__
    if kind in _OF_ITS_ARGUMENT and not node.args.get("count") and not isinstance(node.args.get("quantile"), exp.Array):
        return exp.Max(this=node.this.copy())
    name = _TYPED.get(kind)
    if isinstance(node, exp.Anonymous):
        name = RETURNS.get(node.name.lower())
    # In Athena 100.0 is a decimal and only 1e2 is floating point; sqlglot takes both for floating point.
    if isinstance(node, exp.Literal) and not node.is_string and re.fullmatch(r"\d*\.\d*", node.this):
        name = f"DECIMAL(38, {len(node.this.partition('.')[2])})"
    return exp.cast(node.copy(), name, dialect="athena") if name is not None else None
