"""Functions with the meaning that they have in Athena: texts, times, JSON and aggregates.

Belongs here: one rule for each function whose namesake in DuckDB, or whose translation by sqlglot, answers something else. Not
here: arrays and maps (`sql_collections.py`), operators (`sql_values.py`), which functions are answered at all
(`sql_vocabulary.py`). Each rule takes a part of a numbered tree whose own parts are adapted already, and returns what stands in
its place. The source of the rules is Trino's documentation, and its code where that is silent.
"""

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from resources.sql_building import call, is_null, null, number, text, unless, when
from resources.sql_kinds import Kinds
from resources.sql_statements import SqlError
from resources.sql_values import cast_as_athena_does
from resources.sql_vocabulary import DATE_FORMATS

if TYPE_CHECKING:
    from sqlglot import exp

LARGEST_DISTANCE = 1_000_000
_SPACES = "".join(
    map(chr, (*range(0x09, 0x0E), *range(0x1C, 0x21), 0x1680, *range(0x2000, 0x2007), 0x2008, 0x2009, 0x200A))
)
_SPACES += "\u2028\u2029\u205f\u3000"
_DATE_UNITS = ("MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR")
_PARTS = {"DOW": "ISODOW", "DAY_OF_WEEK": "ISODOW", "DAY_OF_YEAR": "DOY", "YOW": "ISOYEAR", "YEAR_OF_WEEK": "ISOYEAR"}
_ISO_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}(?::[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?)?(?:Z|\+00:?00)?)?"
_ISO_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIMES = ("date", "timestamp")


# ---- texts


def substring(node: "exp.Substring", kinds: Kinds) -> "exp.Expr":
    """`substr(s, start, length)`: nothing before the first character; DuckDB counts a start of 0 or before the text on."""
    from sqlglot import exp

    start, length = node.args["start"], node.args.get("length")
    if length is not None and not _is_count(length):
        node.set("length", call("GREATEST", length, number(0)))
    if _is_count(start, least=1):
        return node
    before = exp.LT(this=start.copy(), expression=exp.Neg(this=call("LENGTH", node.this)))
    outside = exp.or_(exp.EQ(this=start.copy(), expression=number(0)), before)
    return when(outside, text(""), node)


def split_part(node: "exp.SplitPart", kinds: Kinds) -> "exp.Expr":
    """`split_part(s, delimiter, n)`: NULL behind the last part, where DuckDB has an empty text; n counts from 1."""
    from sqlglot import exp

    index = node.args["part_index"]
    part = call("LIST_EXTRACT", call("STR_SPLIT", node.this, node.args["delimiter"]), index)
    if _is_count(index, least=1):
        return part
    return unless(exp.LT(this=index.copy(), expression=number(1)), "split_part() counts parts from 1", part)


def split(node: "exp.Split", kinds: Kinds) -> "exp.Expr":
    """Refuse `split` with a limit, which DuckDB has not."""
    if node.args.get("limit") is not None:
        raise SqlError("split() with a limit has no equal in DuckDB; leave the limit out, or use regexp_extract")
    return node


def levenshtein_distance(node: "exp.Levenshtein", kinds: Kinds) -> "exp.Expr":
    """`levenshtein_distance(a, b)` of texts whose lengths multiply to a million at most, as in Athena."""
    from sqlglot import exp

    size = exp.Mul(this=call("LENGTH", node.this), expression=call("LENGTH", node.expression))
    too_long = exp.GT(this=size, expression=number(LARGEST_DISTANCE))
    # In the argument: beside the function DuckDB would have computed it of constants before it asks.
    node.set("this", unless(too_long, "levenshtein_distance() of texts as long as these", node.this))
    return node


def trim(node: "exp.Trim", kinds: Kinds) -> "exp.Expr":
    """`trim(s)` and its kin take all white space away; DuckDB's take spaces alone."""
    position = str(node.args.get("position") or "").upper()
    name = {"LEADING": "LTRIM", "TRAILING": "RTRIM"}.get(position, "TRIM")
    return call(name, node.this, node.args.get("expression") or text(_SPACES))


def regexp_extract(node: "exp.RegexpExtract", kinds: Kinds) -> "exp.Expr":
    """`regexp_extract`: NULL where nothing matches, where DuckDB has an empty text."""
    return when(call("REGEXP_MATCHES", node.this, node.expression), node)


def regexp_replace(node: "exp.RegexpReplace", kinds: Kinds) -> "exp.Expr":
    """`regexp_replace`: every match, groups written as $1 there and \\1 here."""
    from sqlglot import exp

    written = node.args.get("replacement")
    if not isinstance(written, exp.Literal) or not written.is_string:
        raise SqlError("regexp_replace() is answered with a text as its replacement; write it out")
    parts = re.findall(r"\$\d|\\.|\$\{?|\\|[^$\\]+", written.this)
    if any(part in ("$", "${", "\\") for part in parts):
        raise SqlError(f"the replacement '{written.this}' names a group in no way that DuckDB knows; write $1 to $9")
    replacement = "".join(
        f"\\{part[1:]}" if part[0] == "$" else part[1:].replace("\\", r"\\") if part[0] == "\\" else part
        for part in parts
    )
    node.set("replacement", text(replacement))
    return node


def renamed(name: str) -> "Callable[[exp.Anonymous, Kinds], exp.Expr]":
    """Return the rule of a function that DuckDB has under another name."""

    def rule(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
        return call(name, *node.expressions)

    return rule


def constant(value: str) -> "Callable[[exp.Anonymous, Kinds], exp.Expr]":
    """Return the rule of a function that is one floating-point number."""

    def rule(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
        from sqlglot import exp

        return exp.cast(text(value), "DOUBLE")

    return rule


def _is_count(node: "exp.Expr", least: int = 0) -> bool:
    from sqlglot import exp

    return isinstance(node, exp.Literal) and not node.is_string and node.this.isdigit() and int(node.this) >= least


# ---- times


def date_diff(node: "exp.DateDiff", kinds: Kinds) -> "exp.Expr":
    """`date_diff(unit, a, b)`: whole units between two times; DuckDB's namesake counts the boundaries that lie between."""
    unit = node.args["unit"].name.upper()
    _check_unit("date_diff", unit)
    _refuse_texts("date_diff", [node.this, node.expression], kinds)
    return call("DATE_SUB", text(unit.lower()), node.expression, node.this)


def date_add(node: "exp.DateAdd", kinds: Kinds) -> "exp.Expr":
    """`date_add(unit, n, x)`: a date stays one, which DuckDB makes a timestamp."""
    from sqlglot import exp

    unit = node.args["unit"].name.upper()
    _check_unit("date_add", unit)
    _refuse_texts("date_add", [node.this], kinds)
    if kinds.of(node.this) != "date":
        return node
    if unit in ("MILLISECOND", "SECOND", "MINUTE", "HOUR"):
        raise SqlError(f"Athena adds no {unit.lower()}s to a date; cast it to a timestamp")
    return exp.cast(node.copy(), "DATE")


def date_trunc(node: "exp.TimestampTrunc", kinds: Kinds) -> "exp.Expr":
    """`date_trunc(unit, x)`: a date stays one, which DuckDB makes a timestamp."""
    from sqlglot import exp

    _check_unit("date_trunc", node.args["unit"].name.upper())
    _refuse_texts("date_trunc", [node.this], kinds)
    return exp.cast(node.copy(), "DATE") if kinds.of(node.this) == "date" else node


def extract(node: "exp.Extract", kinds: Kinds) -> "exp.Expr":
    """`EXTRACT(DOW FROM x)` and its kin count as ISO does: Monday is 1."""
    from sqlglot import exp

    _refuse_texts("extract", [node.expression], kinds)
    part = node.name.upper()
    node.set("this", exp.var(_PARTS.get(part, part)))
    return node


def year_of_week(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
    """`yow(x)`, the year that the ISO week belongs to."""
    return call("ISOYEAR", *node.expressions)


def millisecond(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
    """`millisecond(x)` without the seconds, which DuckDB counts in."""
    from sqlglot import exp

    return exp.paren(exp.Mod(this=call("MILLISECOND", *node.expressions), expression=number(1000)))


def date_format(node: "exp.TimeToStr", kinds: Kinds) -> "exp.Expr":
    """`date_format(x, format)` with the letters that both engines know."""
    _refuse_texts("date_format", [node.this], kinds)
    _check_format("date_format", node.args["format"])
    return node


def date_parse(node: "exp.StrToTime", kinds: Kinds) -> "exp.Expr":
    """`date_parse(text, format)` with the letters that both engines know."""
    _check_format("date_parse", node.args["format"])
    return node


def from_iso8601_timestamp(node: "exp.FromISO8601Timestamp", kinds: Kinds) -> "exp.Expr":
    """`from_iso8601_timestamp(text)`: ISO 8601 alone, in UTC, to the millisecond."""
    from sqlglot import exp

    wrong = exp.Not(this=call("REGEXP_FULL_MATCH", node.this, text(_ISO_TIME)))
    told = unless(wrong, "from_iso8601_timestamp() is answered for ISO 8601 in UTC", node.this)
    return call("DATE_TRUNC", text("millisecond"), exp.cast(told, "TIMESTAMPTZ"))


def from_iso8601_date(node: "exp.FromISO8601Date", kinds: Kinds) -> "exp.Expr":
    """`from_iso8601_date(text)`: ISO 8601 alone."""
    from sqlglot import exp

    wrong = exp.Not(this=call("REGEXP_FULL_MATCH", node.this, text(_ISO_DATE)))
    return exp.cast(unless(wrong, "from_iso8601_date() is answered for dates as 2026-06-09", node.this), "DATE")


def from_unixtime(node: "exp.UnixToTime", kinds: Kinds) -> "exp.Expr":
    """`from_unixtime(seconds)`, in UTC and to the millisecond."""
    if node.args.get("zone") is not None or node.args.get("hours") is not None:
        raise SqlError("from_unixtime() is answered in UTC; leave the zone out")
    return call("MAKE_TIMESTAMPTZ", _micros(node.this))


def date_of(node: "exp.Date", kinds: Kinds) -> "exp.Expr":
    """`date(x)`, a cast."""
    from sqlglot import exp

    cast = exp.cast(node.this.copy(), "DATE")
    return cast_as_athena_does(cast, kinds)


def _micros(seconds: "exp.Expr") -> "exp.Expr":
    from sqlglot import exp

    millis = exp.cast(
        call("ROUND", exp.Mul(this=exp.paren(exp.cast(seconds.copy(), "DOUBLE")), expression=number(1000))), "BIGINT"
    )
    return exp.Mul(this=millis, expression=number(1000))


def _check_unit(name: str, unit: str) -> None:
    if unit not in _DATE_UNITS:
        raise SqlError(
            f"{name}() knows no unit '{unit.lower()}'; use {', '.join(each.lower() for each in _DATE_UNITS)}"
        )


def _refuse_texts(name: str, operands: "list[exp.Expr]", kinds: Kinds) -> None:
    if any(kinds.of(each) == "text" for each in operands):
        raise SqlError(
            f"{name}() takes no varchar in Athena; cast it to a date or timestamp, or use from_iso8601_timestamp"
        )


def _check_format(name: str, pattern: "exp.Expr") -> None:
    from sqlglot import exp

    if not isinstance(pattern, exp.Literal) or not pattern.is_string:
        raise SqlError(f"{name}() is answered with a text as its format; write it out")
    unknown = [each for each in re.findall(r"%-?(.?)", pattern.this) if each not in DATE_FORMATS]
    if unknown:
        raise SqlError(f"{name}() has %{unknown[0]} in its format, which DuckDB does not know; leave it out")


# ---- JSON


def json_extract(node: "exp.JSONExtract", kinds: Kinds) -> "exp.Expr":
    """`json_extract(json, path)`: NULL for a text that is no JSON."""
    _check_path(node)
    return _of_json(node.this, node, kinds)


def json_extract_scalar(node: "exp.JSONExtractScalar", kinds: Kinds) -> "exp.Expr":
    """`json_extract_scalar(json, path)`: NULL for objects, arrays, and a text that is no JSON."""
    from sqlglot import exp

    _check_path(node)
    shape = call("JSON_TYPE", node.this, node.expression)
    several = exp.In(this=shape, expressions=[text("OBJECT"), text("ARRAY")])
    return _of_json(node.this, when(several, null(), node), kinds)


def json_format(node: "exp.JSONFormat", kinds: Kinds) -> "exp.Expr":
    """Refuse to write parsed JSON, whose keys Athena sorts."""
    from sqlglot import exp

    if isinstance(node.this, exp.ParseJSON):
        raise SqlError("json_format(json_parse(...)) sorts the keys in Athena and not here; use the text itself")
    return node


def json_array_length(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
    """`json_array_length(json)`: NULL for what is no array, or no JSON."""
    from sqlglot import exp

    (value,) = node.expressions
    is_array = exp.EQ(this=call("JSON_TYPE", value), expression=text("ARRAY"))
    return _of_json(value, when(is_array, call("JSON_ARRAY_LENGTH", value)), kinds)


def _of_json(value: "exp.Expr", found: "exp.Expr", kinds: Kinds) -> "exp.Expr":
    """Return what was found in JSON, NULL where a text is none. DuckDB looks into a text that is written out before it asks
    whether it is valid."""
    from sqlglot import exp

    if kinds.of(value) == "json":
        return found
    if isinstance(value, exp.Literal):
        try:
            json.loads(value.this)
        except ValueError:
            return null()
    return when(call("JSON_VALID", value), found)


def _check_path(node: "exp.JSONExtract | exp.JSONExtractScalar") -> None:
    from sqlglot import exp

    path = node.expression
    if not isinstance(path, exp.JSONPath) or node.expressions:
        raise SqlError("a path into JSON is answered where it is written out; use a text such as '$.name'")


# ---- aggregates


def approx_percentile(node: "exp.ApproxQuantile", kinds: Kinds) -> "exp.Expr":
    """`approx_percentile(x, p)`: the value at place floor(p * n), counted from 0, of the sorted values: what Athena's digest
    gives exactly while it holds each value by itself, and about so of more. Never between two values, as DuckDB's."""
    from sqlglot import exp

    share = node.args["quantile"]
    if (
        node.args.get("weight") is not None
        or node.args.get("accuracy") is not None
        or isinstance(node.this, exp.Distinct)
    ):
        raise SqlError(
            "approx_percentile() is answered for values and a share; leave weights, accuracy and DISTINCT out"
        )
    shares = share.expressions if isinstance(share, exp.Array) else [share]
    for each in shares:
        if not isinstance(each, exp.Literal) or each.is_string or not 0 <= float(each.this) <= 1:
            raise SqlError("approx_percentile() takes shares from 0 to 1 that are written out, such as 0.95")
    value = exp.cast(node.this.copy(), "DOUBLE") if kinds.of(node.this) == "decimal" else node.this
    values = call("LIST_SORT", _over(node, call("LIST", value), exp.Not(this=is_null(node.this))))
    found = [call("LIST_EXTRACT", values, _place(each, values)) for each in shares]
    if not isinstance(share, exp.Array):
        return _with_surroundings(found[0])
    return _with_surroundings(when(exp.Not(this=is_null(values)), exp.Array(expressions=found)))


def _place(share: "exp.Expr", values: "exp.Expr") -> "exp.Expr":
    from sqlglot import exp

    count = call("LEN", values)
    at = exp.Mul(this=exp.cast(share.copy(), "DOUBLE"), expression=count)
    last = exp.Sub(this=count.copy(), expression=number(1))
    return exp.Add(this=call("LEAST", exp.cast(call("FLOOR", at), "BIGINT"), last), expression=number(1))


def approx_distinct(node: "exp.ApproxDistinct", kinds: Kinds) -> "exp.Expr":
    """`approx_distinct(x)`: counted exactly, which is within Athena's error of 2.3 % and right for few values, as there."""
    from sqlglot import exp

    return exp.Count(this=exp.Distinct(expressions=[node.this.copy()]))


def by_extreme(name: str) -> "Callable[[exp.ArgMax | exp.ArgMin, Kinds], exp.Expr]":
    """Return the rule of `max_by` or `min_by`: the value of the row where another one is extreme, also where it is NULL."""

    def rule(node: "exp.ArgMax | exp.ArgMin", kinds: Kinds) -> "exp.Expr":
        from sqlglot import exp

        count = node.args.get("count")
        if count is None:
            return call(f"{name}_NULL", node.this, node.expression)
        kept = exp.Struct(expressions=[exp.PropertyEQ(this=exp.to_identifier("kept"), expression=node.this.copy())])
        rows = _over(node, call(name, kept, node.expression, count))
        body = call("STRUCT_EXTRACT", exp.to_identifier("each"), text("kept"))
        made = call("LIST_TRANSFORM", rows, exp.Lambda(this=body, expressions=[exp.to_identifier("each")]))
        return _with_surroundings(made)

    return rule


def map_agg(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
    """`map_agg(key, value)`, keys that are NULL left out. A key that is there twice is an error here, one of both in Athena."""
    from sqlglot import exp

    key, value = node.expressions
    there = exp.Not(this=is_null(key))
    made = call("MAP", _over(node, call("LIST", key), there), _over(node, call("LIST", value), there))
    return _with_surroundings(made)


def avg(node: "exp.Avg", kinds: Kinds) -> "exp.Expr":
    """Refuse the average of decimals, which Athena rounds to their scale."""
    if kinds.of(node.this) == "decimal":
        raise SqlError("Athena rounds avg() of decimals to their scale; cast them to double first")
    return node


SURROUNDED = "surrounded"
"""The mark of what stands in the place of an aggregate together with the FILTER and OVER around it."""


def _with_surroundings(made: "exp.Expr") -> "exp.Expr":
    made.meta[SURROUNDED] = True
    return made


def _over(node: "exp.Expr", aggregate: "exp.Expr", only: "exp.Expr | None" = None) -> "exp.Expr":
    """Return an aggregate with the FILTER and OVER that another one stands in, and a condition of its own."""
    from sqlglot import exp

    around: list[exp.Expr] = []
    inner, outer = node, node.parent
    while isinstance(outer, (exp.Filter, exp.Window)) and outer.this is inner:
        around.append(outer)
        inner, outer = outer, outer.parent
    condition = only
    for each in around:
        if isinstance(each, exp.Filter):
            condition = exp.and_(each.expression.this.copy(), condition) if condition else each.expression.this.copy()
    made: exp.Expr = aggregate
    if condition is not None:
        made = exp.Filter(this=made, expression=exp.Where(this=condition.copy()))
    for each in around:
        if isinstance(each, exp.Window):
            window = each.copy()
            window.set("this", made)
            made = window
    return made
