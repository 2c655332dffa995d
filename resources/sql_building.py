"""Pieces of DuckDB's SQL that translations are put together from, as trees and never as text.

Belongs here: the pieces. Not here: what they are used for (`sql_values.py`, `sql_calls.py`, `sql_translation.py`).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import exp


def call(name: str, *arguments: "exp.Expr | None") -> "exp.Anonymous":
    """Return a call of a DuckDB function by its own name, which no dialect rewrites; the arguments are copied, those that are
    none left out."""
    from sqlglot import exp

    return exp.Anonymous(this=name, expressions=[each.copy() for each in arguments if each is not None])


def text(value: str) -> "exp.Literal":
    """Return a text literal."""
    from sqlglot import exp

    return exp.Literal.string(value)


def number(value: int) -> "exp.Expr":
    """Return a whole number."""
    from sqlglot import exp

    return exp.convert(value)


def unless(condition: "exp.Expr", message: str, value: "exp.Expr") -> "exp.Case":
    """Return an expression that is the value, or fails with a message where the condition holds."""
    return when(condition, call("ERROR", text(message)), value)


def when(condition: "exp.Expr", value: "exp.Expr", otherwise: "exp.Expr | None" = None) -> "exp.Case":
    """Return one value where a condition holds, another (or NULL) where it does not."""
    from sqlglot import exp

    case = exp.Case().when(condition.copy(), value.copy())
    return case.else_(otherwise.copy()) if otherwise is not None else case


def null() -> "exp.Null":
    """Return NULL."""
    from sqlglot import exp

    return exp.Null()


def is_null(value: "exp.Expr") -> "exp.Is":
    """Return whether a value is NULL."""
    from sqlglot import exp

    return exp.Is(this=value.copy(), expression=exp.Null())


def lambda_of(names: list[str], body: "exp.Expr") -> "exp.Lambda":
    """Return a function of named arguments."""
    from sqlglot import exp

    return exp.Lambda(this=body, expressions=[exp.to_identifier(name) for name in names])


def field_of(row: "exp.Expr", name: str) -> "exp.Anonymous":
    """Return a field of a row."""
    return call("STRUCT_EXTRACT", row, text(name))


def applied(function: "exp.Expr", *arguments: "exp.Expr") -> "exp.Expr":
    """Return the body of a function with expressions in the place of its arguments."""
    from sqlglot import exp

    if not isinstance(function, exp.Lambda):
        raise TypeError(f"{function.sql()} is no function")
    values = {name.name: value for name, value in zip(function.expressions, arguments, strict=True)}

    def put_in(node: "exp.Expr") -> "exp.Expr":
        inside = isinstance(node, exp.Identifier) and not isinstance(node.parent, (exp.Column, exp.Dot, exp.TableAlias))
        plain = isinstance(node, exp.Column) and not node.table
        if (inside or plain) and node.name in values:
            return exp.paren(values[node.name].copy())
        return node

    return function.this.copy().transform(put_in)
