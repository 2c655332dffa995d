"""A checked statement in Athena's SQL as one in DuckDB's that answers the same.

Belongs here: which rule is for what, in which order they run, and the text that comes out. Not here: what is allowed
(`sql_statements.py`), the rules themselves (`sql_values.py`, `sql_calls.py`, `sql_collections.py`), running (`sql_engine.py`).

sqlglot translates names and syntax. Where it, or a function of the same name, would answer something else, a rule stands here;
what no rule can keep is refused, never answered otherwise.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from resources import sql_calls as calls
from resources import sql_collections as collections
from resources import sql_values as values
from resources.sql_building import number, unless
from resources.sql_kinds import Kinds, kinds_of
from resources.sql_statements import NO_RELATIONS, Relations, SqlError, too_deep

if TYPE_CHECKING:
    from sqlglot import exp

LONGEST_PADDING = 1_000_000

Rule = Callable[[Any, Kinds], Any]


def padding(node: "exp.Pad", kinds: Kinds) -> "exp.Expr":
    """`lpad` and `rpad` to a length that a query can hold: DuckDB builds the text past its own memory limit."""
    from sqlglot import exp

    length = node.expression
    too_long = exp.GT(this=length.copy(), expression=number(LONGEST_PADDING))
    node.set("expression", unless(too_long, f"padding to more than {LONGEST_PADDING} characters", length))
    return node


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(("Cast", "TryCast"), values.cast_as_athena_does),
        **dict.fromkeys(
            ("EQ", "NEQ", "GT", "GTE", "LT", "LTE", "NullSafeEQ", "NullSafeNEQ"), values.compare_as_athena_does
        ),
        **dict.fromkeys(("Between", "In"), values.compare_with_several),
        **dict.fromkeys(("Add", "Sub"), values.add_as_athena_does),
        **dict.fromkeys(("Mul", "Mod"), values.multiply_as_athena_does),
        "Div": values.divide_as_athena_does,
        "DPipe": values.join_as_athena_does,
        "Substring": calls.substring,
        "SplitPart": calls.split_part,
        "Split": calls.split,
        "Levenshtein": calls.levenshtein_distance,
        "Trim": calls.trim,
        "RegexpExtract": calls.regexp_extract,
        "RegexpReplace": calls.regexp_replace,
        "Pad": padding,
        "DateDiff": calls.date_diff,
        "DateAdd": calls.date_add,
        **dict.fromkeys(("DateTrunc", "TimestampTrunc"), calls.date_trunc),
        "Extract": calls.extract,
        "TimeToStr": calls.date_format,
        "StrToTime": calls.date_parse,
        "FromISO8601Timestamp": calls.from_iso8601_timestamp,
        "FromISO8601Date": calls.from_iso8601_date,
        "UnixToTime": calls.from_unixtime,
        "Date": calls.date_of,
        "JSONExtract": calls.json_extract,
        "JSONExtractScalar": calls.json_extract_scalar,
        "JSONFormat": calls.json_format,
        "ApproxQuantile": calls.approx_percentile,
        "ApproxDistinct": calls.approx_distinct,
        "ArgMax": calls.by_extreme("ARG_MAX"),
        "ArgMin": calls.by_extreme("ARG_MIN"),
        "Avg": calls.avg,
        "Bracket": collections.subscript,
        "ArraySlice": collections.slice_of,
        "ArraySize": collections.cardinality,
        "ArrayContains": collections.contains,
        "ArrayPosition": collections.array_position,
        "ArrayDistinct": collections.array_distinct,
        "ArrayIntersect": collections.array_intersect,
        "ArrayExcept": collections.array_except,
        "ArrayRemove": collections.array_remove,
        **dict.fromkeys(("ArrayMax", "ArrayMin"), collections.array_extreme),
        "ArrayToString": collections.array_join,
        "Reverse": collections.reverse,
        "GenerateSeries": collections.sequence,
        "Unnest": collections.unnest,
    }
)
"""The rule for each kind of part, by the name that sqlglot has for it."""

NAMED_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "codepoint": calls.renamed("UNICODE"),
        "hamming_distance": calls.renamed("HAMMING"),
        "every": calls.renamed("BOOL_AND"),
        "is_finite": calls.renamed("ISFINITE"),
        "is_infinite": calls.renamed("ISINF"),
        "nan": calls.constant("NaN"),
        "infinity": calls.constant("Infinity"),
        "yow": calls.year_of_week,
        "millisecond": calls.millisecond,
        "json_array_length": calls.json_array_length,
        "map_agg": calls.map_agg,
        "any_match": collections.any_match,
        "all_match": collections.all_match,
        "none_match": collections.none_match,
        "array_union": collections.array_union,
        "arrays_overlap": collections.arrays_overlap,
        "zip_with": collections.zip_with,
        "map_filter": collections.map_filter,
        "transform_values": collections.transform_values,
    }
)
"""The rule for each function that sqlglot does not know, by its name."""


def translate(tree: "exp.Query", relations: Relations = NO_RELATIONS) -> str:
    """Return the DuckDB text of a checked Athena statement. Raises `SqlError` where translation cannot keep it."""
    try:
        return written(adapted(tree, relations))
    except RecursionError as error:
        raise too_deep() from error


def adapted(tree: "exp.Query", relations: Relations = NO_RELATIONS) -> "exp.Query":
    """Return a copy of a checked Athena statement that keeps its meaning when it is written in DuckDB's SQL: every rule
    applied from the inside out, and a column without a name named `_col<position>`. Raises `SqlError` as `translate`."""
    from sqlglot import exp

    copy = _with_names(_with_plain_subscripts(tree.copy()))
    kinds = kinds_of(copy, relations)
    for node in reversed(list(copy.walk())):
        rule = RULES.get(type(node).__name__)
        if isinstance(node, exp.Anonymous):
            rule = NAMED_RULES.get(node.name.lower())
        if rule is None:
            continue
        made = rule(node, kinds)
        if made is not node:
            kinds.keep(node, made)
            _put_in_place(node, made)
    return copy


def _put_in_place(node: "exp.Expr", made: "exp.Expr") -> None:
    """Replace a part, with the FILTER and OVER around it where the rule has taken them in."""
    from sqlglot import exp

    outer = node
    if made.meta.get(calls.SURROUNDED):
        while isinstance(outer.parent, (exp.Filter, exp.Window)) and outer.parent.this is outer:
            outer = outer.parent
    outer.replace(made)


def written(tree: "exp.Query", *, pretty: bool = False) -> str:
    """Return the DuckDB text of an adapted statement. Raises `SqlError` for what DuckDB has no word for."""
    from sqlglot.errors import ErrorLevel, SqlglotError

    try:
        return tree.sql(dialect="duckdb", unsupported_level=ErrorLevel.RAISE, pretty=pretty)
    except SqlglotError as error:
        why = str(error).splitlines()[0]
        raise SqlError(f"this cannot be translated to DuckDB ({why}); ask Athena itself") from error


def _with_names(tree: "exp.Query") -> "exp.Query":
    from sqlglot import exp

    first: exp.Expr = tree
    while isinstance(first, (exp.SetOperation, exp.Subquery)):
        first = first.this
    if isinstance(first, exp.Select):
        for position, projection in enumerate(first.expressions):
            if not isinstance(projection, (exp.Alias, exp.Column, exp.Star)):
                projection.replace(exp.alias_(projection.copy(), f"_col{position}"))
    return tree


def _with_plain_subscripts(tree: "exp.Query") -> "exp.Query":
    """Let subscripts count from 1 again, as they are written: sqlglot keeps them from 0 where it knows them to be whole."""
    from sqlglot import exp
    from sqlglot.expressions import apply_index_offset

    for node in tree.find_all(exp.Bracket):
        if not node.args.get("safe"):
            node.set("expressions", apply_index_offset(node.this, node.expressions, 1, dialect="athena"))
    return tree
