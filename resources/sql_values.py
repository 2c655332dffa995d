"""Casts, comparisons and arithmetic with the meaning that they have in Athena.

Belongs here: one rule for each kind of operator. Not here: functions (`sql_calls.py`), whole statements
(`sql_translation.py`). Each rule takes a part of a numbered tree whose own parts are adapted already, and returns what stands in
its place. The source of the rules is Trino's documentation, and its code where that is silent.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from resources.sql_building import call, is_null, null, number, text, unless, when
from resources.sql_kinds import FAMILIES, UNKNOWN, Kinds
from resources.sql_statements import SqlError

if TYPE_CHECKING:
    from sqlglot import exp

_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_DAY = r"[0-9]{4,}-[0-9]{1,2}-[0-9]{1,2}"
_TIME = r"[0-9]{1,2}:[0-9]{1,2}(?::[0-9]{1,2}(?:\.[0-9]+)?)?"
_INTEGERS = ("TINYINT", "SMALLINT", "INT", "BIGINT")
_READABLE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_INTEGERS, r"\s*[+-]?[0-9]+\s*"),
        "BOOLEAN": r"(?i)t|f|true|false|1|0",
        "FLOAT": rf"\s*(?:{_NUMBER}|[+-]?(?:NaN|Infinity))\s*",
        "DOUBLE": rf"\s*(?:{_NUMBER}|[+-]?(?:NaN|Infinity))\s*",
        "DECIMAL": rf"\s*{_NUMBER}\s*",
        "DATE": rf"\s*{_DAY}\s*",
        "TIMESTAMP": rf"\s*{_DAY}(?: (?:{_TIME})?)?\s*",
        "TIMESTAMPTZ": rf"\s*{_DAY}(?: (?:{_TIME})?)? ?(?:UTC|Z|\+00:00)?\s*",
    }
)
"""What a text must look like for Athena to cast it to a type. DuckDB reads more: 2.5 as an integer, yes as a boolean."""

_FLOATING = ("DOUBLE", "FLOAT")
_SHOWN_OTHERWISE = (*_FLOATING, "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP WITH TIME ZONE")
_AS_TEXT = {
    "float": "a floating-point number as text has other digits in Athena; cast it to a decimal or to an integer first",
    "timestamp": "a timestamp as text shows its precision in Athena; use date_format",
    "row": "a row as text has no equal in DuckDB; name its fields",
}


# ---- casts


def cast_as_athena_does(node: "exp.Cast", kinds: Kinds) -> "exp.Expr":
    """Cast as Athena does, which fails (or gives NULL with TRY_CAST) for texts that DuckDB would read, rounds halves away
    from zero, cuts `varchar(n)`, takes a text for JSON as one text, and takes a timestamp to be of milliseconds.

    Raises `SqlError` for casts whose text would differ.
    """
    from sqlglot import exp

    target, kind = node.to.this.name, kinds.of(node.this)
    if target == "VARCHAR":
        return _cast_to_text(node, kind)
    if target == "JSON":
        if kind == "row":
            raise SqlError(
                "a row as JSON is an array in Athena and an object here; name its values in an ARRAY or a MAP"
            )
        return node if kind == "json" else call("TO_JSON", node.this)
    if target == "TIMESTAMP" and not node.to.expressions:
        node.to.set("expressions", [exp.DataTypeParam(this=number(3))])
    if target in _READABLE and kind in ("text", UNKNOWN):
        return _cast_of_text(node, kind)
    if target in _INTEGERS and kind == "float":
        node.set("this", call("ROUND", node.this))
    return node


def _cast_of_text(node: "exp.Cast", kind: str) -> "exp.Expr":
    from sqlglot import exp

    value, target = node.this, node.to.this.name
    pattern, safe = _READABLE[target], isinstance(node, exp.TryCast)
    if isinstance(value, exp.Literal):
        if not value.is_string or re.fullmatch(pattern, value.this):
            return node
        if safe:
            return exp.cast(null(), node.to.copy())
        raise SqlError(f"'{value.this}' cannot be cast to {node.to.sql('trino').lower()} in Athena; correct the value")
    words = value if kind == "text" else exp.cast(value.copy(), "VARCHAR")
    unreadable: exp.Expr = exp.Not(this=call("REGEXP_FULL_MATCH", words, text(pattern)))
    if kind == UNKNOWN:
        unreadable = exp.and_(_has_type(value, ("VARCHAR",)), unreadable)
    if safe:
        node.set("this", when(unreadable, null(), value))
    else:
        node.set("this", unless(unreadable, f"a text cannot be cast to {node.to.sql('trino').lower()}", value))
    if kind == UNKNOWN and target in _INTEGERS:
        rounded = node.copy()
        rounded.set("this", call("ROUND", exp.cast(value.copy(), "DOUBLE")))
        return when(_has_type(value, _FLOATING), rounded, node)
    return node


def _cast_to_text(node: "exp.Cast", kind: str) -> "exp.Expr":
    from sqlglot import exp

    if kind in _AS_TEXT:
        raise SqlError(_AS_TEXT[kind])
    value = node.this
    if kind == "json":
        shape = call("JSON_TYPE", value)
        several = exp.In(this=shape, expressions=[text("OBJECT"), text("ARRAY")])
        words = exp.JSONExtractScalar(this=value.copy(), expression=text("$"))
        why = "a JSON object or array cannot be cast to varchar"
        return when(several, null(), words) if isinstance(node, exp.TryCast) else unless(several, why, words)
    if node.to.expressions:
        if kind != "text":
            raise SqlError("varchar of a length is answered for texts alone; cast to varchar without a length")
        return call("SUBSTRING", value, number(1), node.to.expressions[0].this)
    if kind == UNKNOWN and not isinstance(value, exp.Null):
        return unless(_has_type(value, _SHOWN_OTHERWISE), "a floating-point number or timestamp has another text", node)
    return node


def _has_type(value: "exp.Expr", names: tuple[str, ...]) -> "exp.In":
    from sqlglot import exp

    return exp.In(this=call("TYPEOF", value), expressions=[text(name) for name in names])


# ---- comparisons


def compare_as_athena_does(node: "exp.Binary", kinds: Kinds) -> "exp.Expr":
    """Compare as Athena does: kinds that differ are an error, and NaN is equal to nothing and before nothing (in DuckDB it is
    equal to itself and greater than every number)."""
    from sqlglot import exp

    left, right = node.this, node.expression
    _check_families([left, right], kinds)
    if isinstance(node, (exp.NullSafeEQ, exp.NullSafeNEQ)):
        return node
    odd = right if isinstance(node, (exp.LT, exp.LTE)) else left
    if kinds.of(odd) != "float" or isinstance(odd, (exp.Literal, exp.Neg)) or isinstance(right, (exp.All, exp.Any)):
        return node
    nan = call("ISNAN", odd)
    if isinstance(node, exp.NEQ):
        # of two NaN alone DuckDB says that they do not differ
        there = exp.and_(nan, exp.Not(this=is_null(right)))
        return exp.paren(exp.or_(node.copy(), there))
    return exp.paren(exp.and_(node.copy(), exp.Not(this=nan)))


def compare_with_several(node: "exp.Between | exp.In", kinds: Kinds) -> "exp.Expr":
    """Refuse BETWEEN and IN over kinds that differ, as Athena does."""
    from sqlglot import exp

    others = node.expressions if isinstance(node, exp.In) else [node.args["low"], node.args["high"]]
    _check_families([node.this, *others], kinds)
    return node


def _check_families(operands: "list[exp.Expr]", kinds: Kinds) -> None:
    from sqlglot import exp

    # ANY and ALL are of the kind of their query, whatever sqlglot says.
    told = [each for each in operands if not isinstance(each, (exp.All, exp.Any))]
    families = {FAMILIES[kind]: each for each in told if (kind := kinds.of(each)) in FAMILIES}
    if len(families) > 1:
        (first, one), (second, other) = list(families.items())[:2]
        raise SqlError(
            f"Athena compares no {first} with a {second} (`{_short(one)}` with `{_short(other)}`); cast one of them"
        )


def _short(node: "exp.Expr") -> str:
    return node.sql("trino")[:40]


# ---- arithmetic


def add_as_athena_does(node: "exp.Add | exp.Sub", kinds: Kinds) -> "exp.Expr":
    """Add as Athena does: no texts, and a date and days are a date. The difference of two times is an interval there and a
    number here: refused."""
    from sqlglot import exp

    operands = [node.this, node.expression]
    found = [kinds.of(each) for each in operands]
    if "text" in found:
        raise SqlError(f"Athena does not calculate with a varchar (`{_short(node)}`); cast it to a number")
    if isinstance(node, exp.Sub) and all(FAMILIES.get(kind) == "date" for kind in found):
        raise SqlError(f"the difference of two times is an interval in Athena (`{_short(node)}`); use date_diff")
    if "date" in found and any(isinstance(each, exp.Interval) for each in operands):
        interval = next(each for each in operands if isinstance(each, exp.Interval))
        unit = interval.args.get("unit")
        if unit is None or unit.name.upper() not in ("DAY", "WEEK", "MONTH", "QUARTER", "YEAR"):
            raise SqlError(f"Athena adds no hours to a date (`{_short(node)}`); cast it to a timestamp")
        return exp.cast(node.copy(), "DATE")
    return node


def join_as_athena_does(node: "exp.DPipe", kinds: Kinds) -> "exp.Expr":
    """Join arrays with arrays or with one element, and texts with texts alone: DuckDB makes a text of anything."""
    from sqlglot import exp

    found = (kinds.of(node.this), kinds.of(node.expression))
    if "array" in found:
        for side, kind in zip(("this", "expression"), found, strict=True):
            if kind not in ("array", UNKNOWN):
                node.set(side, exp.Array(expressions=[node.args[side].copy()]))
    elif any(FAMILIES.get(kind, "varchar") != "varchar" for kind in found):
        raise SqlError(f"Athena joins texts alone (`{_short(node)}`); cast both sides to varchar")
    return node


def multiply_as_athena_does(node: "exp.Mul | exp.Mod", kinds: Kinds) -> "exp.Expr":
    """Refuse to multiply texts, as Athena does."""
    if "text" in (kinds.of(node.this), kinds.of(node.expression)):
        raise SqlError(f"Athena does not calculate with a varchar (`{_short(node)}`); cast it to a number")
    return node


def divide_as_athena_does(node: "exp.Div", kinds: Kinds) -> "exp.Expr":
    """Divide as Athena does: whole numbers truncate and fail on zero, floating-point numbers give infinity, decimals round to
    the larger scale."""
    from sqlglot import exp

    found = (kinds.of(node.this), kinds.of(node.expression))
    if "text" in found:
        raise SqlError(f"Athena does not calculate with a varchar (`{_short(node)}`); cast it to a number")
    if "float" in found:
        return node
    if not set(found) <= {"whole", "decimal"}:
        raise SqlError(
            f"it cannot be told whether `{_short(node)}` divides whole numbers; cast one side, such as to double"
        )
    whole = exp.IntDiv(this=node.this.copy(), expression=node.expression.copy())
    if "decimal" not in found:
        return whole
    return call("ROUND", whole, call("GREATEST", _scale(node.this), _scale(node.expression)))


def _scale(operand: "exp.Expr") -> "exp.Expr":
    """Return an expression for the digits after the point of an operand's type, `DECIMAL(4,1)`; 0 for whole numbers."""
    from sqlglot import exp

    words: exp.Expr = call("TYPEOF", operand)
    for separator, part in ((",", 2), (")", 1)):
        words = call("SPLIT_PART", words, text(separator), number(part))
    return call("COALESCE", exp.TryCast(this=words, to=exp.DataType.build("INT")), number(0))
