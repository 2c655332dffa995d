"""Arrays and maps with the meaning that they have in Athena: their functions, their subscripts, and UNNEST.

Belongs here: one rule for each function whose namesake in DuckDB, or whose translation by sqlglot, answers something else. Not
here: other functions (`sql_calls.py`), operators (`sql_values.py`). Each rule takes a part of a numbered tree whose own parts
are adapted already, and returns what stands in its place. The source of the rules is Trino's documentation, and its code
where that is silent.
"""

from typing import TYPE_CHECKING

from resources.sql_building import applied, call, field_of, is_null, lambda_of, null, number, text, unless, when
from resources.sql_kinds import Kinds
from resources.sql_statements import SqlError

if TYPE_CHECKING:
    from sqlglot import exp

LONGEST_SEQUENCE = 10_000
_ITEM = "each_item"


# ---- subscripts


def subscript(node: "exp.Bracket", kinds: Kinds) -> "exp.Expr":
    """`a[i]`: an error outside of the array, where DuckDB has NULL or counts from the end; `m[key]`: an error without the
    key. `element_at` gives NULL in both."""
    from sqlglot import exp

    base, (key,) = node.this, node.expressions
    if node.args.get("safe"):
        return node
    if kinds.of(base) == "row" or isinstance(base, exp.Struct):
        raise SqlError("a field of a row has no place by number here; cast the row to ROW(name type) and write .name")
    if kinds.of(base) == "map" or kinds.of(key) == "text" or key.is_string:
        missing = exp.Not(this=call("MAP_CONTAINS", base, key))
        return unless(missing, "a key is not there in its map", call("MAP_EXTRACT_VALUE", base, key))
    below = exp.LT(this=key.copy(), expression=number(1))
    above = exp.GT(this=key.copy(), expression=call("CARDINALITY", base))
    found = call("LIST_EXTRACT", base, key)
    return unless(exp.or_(below, above), "an array subscript lies outside of its array", found)


def slice_of(node: "exp.ArraySlice", kinds: Kinds) -> "exp.Expr":
    """`slice(a, start, length)`: a length, where DuckDB takes an end; a negative start counts from the end."""
    from sqlglot import exp

    array, start, length = node.this, node.args["start"], node.args["end"]
    from_end = exp.Add(this=exp.Add(this=call("LEN", array), expression=exp.paren(start.copy())), expression=number(1))
    first = exp.paren(when(exp.LT(this=start.copy(), expression=number(0)), from_end, start))
    last = exp.Sub(this=exp.Add(this=first.copy(), expression=exp.paren(length.copy())), expression=number(1))
    nothing = exp.LT(this=first.copy(), expression=number(1))
    kept = when(nothing, call("LIST_SLICE", array, number(1), number(0)), call("LIST_SLICE", array, first, last))
    return unless(exp.EQ(this=start.copy(), expression=number(0)), "slice() counts from 1", kept)


# ---- arrays


def cardinality(node: "exp.ArraySize", kinds: Kinds) -> "exp.Expr":
    """`cardinality(x)` of arrays and of maps."""
    return call("CARDINALITY", node.this)


def contains(node: "exp.ArrayContains", kinds: Kinds) -> "exp.Expr":
    """`contains(a, x)`: NULL where x is not there and a NULL is."""
    from sqlglot import exp

    return exp.paren(exp.or_(call("LIST_CONTAINS", node.this, node.expression), _null_if_nulls(node.this)))


def array_position(node: "exp.ArrayPosition", kinds: Kinds) -> "exp.Expr":
    """`array_position(a, x)`: 0 where it is not there."""
    from sqlglot import exp

    nothing = exp.or_(is_null(node.this), is_null(node.expression))
    found = call("LIST_POSITION", node.this, node.expression)
    return when(nothing, null(), call("COALESCE", found, number(0)))


def array_distinct(node: "exp.ArrayDistinct", kinds: Kinds) -> "exp.Expr":
    """`array_distinct(a)` in the order of first occurrence, NULL among them."""
    return _distinct(node.this)


def array_union(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
    """`array_union(a, b)` in the order of first occurrence."""
    left, right = node.expressions
    either = is_null(left)
    return when(_or(either, is_null(right)), null(), _distinct(call("LIST_CONCAT", left, right)))


def array_intersect(node: "exp.ArrayIntersect", kinds: Kinds) -> "exp.Expr":
    """`array_intersect(a, b)` in the order of a."""
    if len(node.expressions) != 2:
        raise SqlError("array_intersect() is answered for two arrays; write it once for each pair")
    left, right = node.expressions
    return _filtered_by(left, right, there=True)


def array_except(node: "exp.ArrayExcept", kinds: Kinds) -> "exp.Expr":
    """`array_except(a, b)` in the order of a."""
    return _filtered_by(node.this, node.expression, there=False)


def array_remove(node: "exp.ArrayRemove", kinds: Kinds) -> "exp.Expr":
    """`array_remove(a, x)`: NULL elements stay."""
    from sqlglot import exp

    other = exp.NullSafeNEQ(this=exp.to_identifier(_ITEM), expression=node.expression.copy())
    kept = call("LIST_FILTER", node.this, lambda_of([_ITEM], other))
    return when(exp.Not(this=is_null(node.expression)), kept)


def array_extreme(node: "exp.ArrayMax | exp.ArrayMin", kinds: Kinds) -> "exp.Expr":
    """`array_max(a)` and `array_min(a)`: NULL where an element is."""
    return when(_has_nulls(node.this), null(), node)


def array_join(node: "exp.ArrayToString", kinds: Kinds) -> "exp.Expr":
    """`array_join(a, delimiter)` of anything but floating-point numbers, whose texts differ."""
    from sqlglot import exp

    floating = exp.In(this=call("TYPEOF", node.this), expressions=[text("DOUBLE[]"), text("FLOAT[]")])
    return unless(floating, "array_join() of floating-point numbers has another text in Athena", node)


def arrays_overlap(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
    """`arrays_overlap(a, b)`: NULL where they share nothing and one has a NULL."""
    from sqlglot import exp

    left, right = node.expressions
    unsure = exp.or_(_null_if_nulls(left), _null_if_nulls(right))
    return exp.paren(exp.or_(call("LIST_HAS_ANY", left, right), unsure))


def any_match(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
    """`any_match(a, f)`: NULL where no element satisfies f and of one it is not known."""
    array, function = node.expressions
    return _some(array, applied(function, _item()))


def none_match(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
    """`none_match(a, f)`, the contrary of `any_match`."""
    from sqlglot import exp

    return exp.Not(this=exp.paren(any_match(node, kinds)))


def all_match(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
    """`all_match(a, f)`: NULL where no element fails f and of one it is not known."""
    from sqlglot import exp

    array, function = node.expressions
    return exp.Not(this=exp.paren(_some(array, exp.Not(this=exp.paren(applied(function, _item()))))))


def zip_with(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
    """`zip_with(a, b, f)`: the shorter array is filled with NULL."""
    left, right, function = node.expressions
    first, second = (call("ARRAY_EXTRACT", _item(), number(place)) for place in (1, 2))
    return call("LIST_TRANSFORM", call("LIST_ZIP", left, right), lambda_of([_ITEM], applied(function, first, second)))


def reverse(node: "exp.Reverse", kinds: Kinds) -> "exp.Expr":
    """`reverse(x)` of a text, or of an array that is known to be one."""
    return call("LIST_REVERSE", node.this) if kinds.of(node.this) == "array" else node


def sequence(node: "exp.GenerateSeries", kinds: Kinds) -> "exp.Expr":
    """`sequence(a, b, step)`: downward where b lies before a, days between dates, and at most 10,000 entries, beyond which
    Athena fails; DuckDB would build any length, past its own memory limit."""
    from sqlglot import exp

    start, stop, step = node.args["start"], node.args["end"], node.args.get("step")
    of_dates = kinds.of(start) == "date"
    if step is None:
        rising = exp.GTE(this=stop.copy(), expression=start.copy())
        step = exp.Interval(this=text("1"), unit=exp.var("DAY")) if of_dates else when(rising, number(1), number(-1))
        node.set("step", step)
    low, high = start, stop
    if isinstance(step, exp.Interval):
        low, high = exp.cast(start.copy(), "TIMESTAMP"), exp.cast(stop.copy(), "TIMESTAMP")
    # The larger of both directions: a step of the wrong sign is an error in Athena too.
    up = exp.GTE(this=exp.Sub(this=high.copy(), expression=low.copy()), expression=_times(step, LONGEST_SEQUENCE))
    down = exp.GTE(this=exp.Sub(this=low.copy(), expression=high.copy()), expression=_times(step, -LONGEST_SEQUENCE))
    long = exp.or_(
        exp.and_(exp.GTE(this=high.copy(), expression=low.copy()), up),
        exp.and_(exp.GT(this=low.copy(), expression=high.copy()), down),
    )
    node.set("end", unless(long, f"sequence() has more than {LONGEST_SEQUENCE} entries", high))
    return exp.cast(node.copy(), "DATE[]") if of_dates else node


def _times(step: "exp.Expr", factor: int) -> "exp.Expr":
    from sqlglot import exp

    return exp.Mul(this=exp.paren(step.copy()), expression=number(factor))


def _item() -> "exp.Expr":
    from sqlglot import exp

    return exp.column(_ITEM)


def _or(left: "exp.Expr", right: "exp.Expr") -> "exp.Expr":
    from sqlglot import exp

    return exp.or_(left, right)


def _has_nulls(array: "exp.Expr") -> "exp.Expr":
    from sqlglot import exp

    return exp.LT(this=call("LIST_COUNT", array), expression=call("LEN", array))


def _null_if_nulls(array: "exp.Expr") -> "exp.Expr":
    from sqlglot import exp

    return when(_has_nulls(array), null(), exp.false())


def _distinct(array: "exp.Expr") -> "exp.Expr":
    from sqlglot import exp

    first = exp.EQ(this=call("LIST_POSITION", array, _item()), expression=exp.column("each_place"))
    return call("LIST_FILTER", array, lambda_of([_ITEM, "each_place"], first))


def _filtered_by(left: "exp.Expr", right: "exp.Expr", *, there: bool) -> "exp.Expr":
    from sqlglot import exp

    # By place, not by LIST_CONTAINS, which does not find a NULL.
    missing = is_null(call("LIST_POSITION", right, _item()))
    condition = exp.Not(this=missing) if there else missing
    kept = call("LIST_FILTER", _distinct(left), lambda_of([_ITEM], condition))
    return when(exp.or_(is_null(left), is_null(right)), null(), kept)


def _some(array: "exp.Expr", condition: "exp.Expr") -> "exp.Expr":
    """Return whether a condition on an element holds for one: NULL where for none, and of one it is not known."""
    from sqlglot import exp

    def number_of(body: "exp.Expr") -> "exp.Expr":
        kept = call("LIST_FILTER", array, lambda_of([_ITEM], body.copy()))
        return exp.GT(this=call("LEN", kept), expression=number(0))

    unsure = when(number_of(is_null(exp.paren(condition))), null(), exp.false())
    return when(is_null(array), null(), when(number_of(condition), exp.true(), unsure))


# ---- maps


def map_filter(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
    """`map_filter(m, f)`, whose function takes a key and a value."""
    entries, function = call("MAP_ENTRIES", node.expressions[0]), node.expressions[1]
    body = applied(function, field_of(_item(), "key"), field_of(_item(), "value"))
    return call("MAP_FROM_ENTRIES", call("LIST_FILTER", entries, lambda_of([_ITEM], body)))


def transform_values(node: "exp.Anonymous", kinds: Kinds) -> "exp.Expr":
    """`transform_values(m, f)`, whose function takes a key and a value."""
    pairs, function = node.expressions
    body = applied(function, field_of(_item(), "key"), field_of(_item(), "value"))
    values = call("LIST_TRANSFORM", call("MAP_ENTRIES", pairs), lambda_of([_ITEM], body))
    return call("MAP", call("MAP_KEYS", pairs), values)


# ---- UNNEST


def unnest(node: "exp.Unnest", kinds: Kinds) -> "exp.Expr":
    """`UNNEST(a, b, ...)`: side by side, the shorter filled with NULL; an array of rows becomes a column for each field."""
    from sqlglot import exp

    alias, arrays = node.args.get("alias"), node.expressions
    names = list(alias.args.get("columns") or []) if alias is not None else []
    offset = node.args.get("offset")
    rows = len(arrays) == 1 and (len(names) > 1 or _is_of_rows(arrays[0], kinds))
    if len(arrays) == 1 and not rows:
        return node
    if offset:
        raise SqlError("UNNEST of rows or of several arrays WITH ORDINALITY is not answered locally; leave it out")
    columns: list[exp.Expr] = [call("UNNEST", each) for each in arrays]
    if rows:
        columns = [exp.Anonymous(this="UNNEST", expressions=[arrays[0].copy(), _depth()])]
    elif any(_is_of_rows(each, kinds) for each in arrays):
        raise SqlError("UNNEST of rows beside other arrays is not answered locally; unnest them one after the other")
    return exp.Subquery(this=exp.Select(expressions=columns), alias=alias.copy() if alias is not None else None)


def _is_of_rows(array: "exp.Expr", kinds: Kinds) -> bool:
    from sqlglot import exp

    found = kinds.type_of(array)
    inner = found.expressions[0] if found is not None and kinds.of(array) == "array" and found.expressions else None
    if isinstance(inner, exp.DataType) and inner.this == exp.DataType.Type.STRUCT:
        return True
    return isinstance(array, exp.Array) and any(isinstance(each, exp.Struct) for each in array.expressions)


def _depth() -> "exp.Expr":
    from sqlglot import exp

    return exp.PropertyEQ(this=exp.to_identifier("max_depth"), expression=number(2))
