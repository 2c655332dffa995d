"""What of Athena's SQL is answered locally: its functions by name, its syntax by kind, and what is refused with which reason.

Belongs here: data alone. Not here: how a thing is translated (`sql_translation.py` and what it uses), checking a statement against
these lists (`sql_statements.py`).

Everything is refused that is not listed: a function of the same name may mean something else in DuckDB, and one that only DuckDB
knows would fail on AWS. A function is listed when its answers were compared with what the documentation or the source of Trino
says of it; its tests hold the comparisons, and one of them that no function is listed without any.
"""

from collections.abc import Mapping
from types import MappingProxyType


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS: frozenset[str] = _words(
    """
    any_value approx_distinct approx_percentile arbitrary array_agg avg bool_and bool_or corr count count_if covar_pop
    covar_samp every geometric_mean grouping histogram listagg map_agg max max_by min min_by regr_intercept regr_slope
    stddev stddev_pop stddev_samp sum var_pop var_samp variance

    cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number

    coalesce greatest if least nullif try

    abs bitwise_and bitwise_or bitwise_xor ceil ceiling degrees exp floor infinity is_finite is_infinite is_nan ln log
    log10 log2 mod nan pi pow power radians rand random round sign sqrt truncate

    chr codepoint concat concat_ws hamming_distance length levenshtein_distance lower lpad ltrim position regexp_count
    regexp_extract regexp_extract_all regexp_like regexp_replace regexp_split replace reverse rpad rtrim split
    split_part starts_with strpos substr substring translate trim upper

    current_date current_timestamp date date_add date_diff date_format date_parse date_trunc day day_of_month
    day_of_week day_of_year dow doy extract from_iso8601_date from_iso8601_timestamp from_unixtime hour
    last_day_of_month localtimestamp millisecond minute month now quarter second to_unixtime week week_of_year year
    year_of_week yow

    all_match any_match array_distinct array_except array_intersect array_join array_max array_min array_position
    array_remove array_sort array_union arrays_overlap cardinality contains element_at filter flatten none_match row
    sequence slice transform zip_with

    map map_concat map_entries map_filter map_from_entries map_keys map_values transform_values

    json_array_length json_extract json_extract_scalar json_format json_parse
    """
)
"""Athena's functions that are answered locally, by the name that a statement writes."""

INSTEAD: Mapping[str, str] = MappingProxyType(
    {
        "approx_most_frequent": "has no equal in DuckDB; use GROUP BY with ORDER BY count(*) DESC LIMIT",
        "array_histogram": "has no equal in DuckDB; UNNEST the array and group by its elements",
        "at_timezone": "gives a time that keeps its zone, which only UTC is here; shift it with date_add",
        "cbrt": "differs from Athena in the last digit; use power(x, 1e0 / 3)",
        "checksum": "is Athena's own hash; compare the rows themselves",
        "date_sub": "is no function of Athena; use date_diff, or date_add with a negative number",
        "format": "reads its pattern differently in DuckDB; use || and CAST",
        "format_datetime": "reads the patterns of Joda, which DuckDB does not know; use date_format",
        "json_array_get": "is wrong by its own documentation in Athena too; use json_extract with a path such as $[0]",
        "json_query": "has no equal in DuckDB; use json_extract",
        "json_value": "has no equal in DuckDB; use json_extract_scalar",
        "md5": "gives bytes in Athena and a text in DuckDB; compare the values themselves",
        "multimap_agg": "has no equal in DuckDB; use array_agg with GROUP BY",
        "numeric_histogram": "has no equal in DuckDB; group by floor(x / width)",
        "parse_datetime": "reads the patterns of Joda, which DuckDB does not know; use date_parse",
        "reduce": "has no equal in DuckDB; use a sum or another aggregate",
        "reduce_agg": "has no equal in DuckDB; use a sum or another aggregate",
        "repeat": "makes an array in Athena and a text in DuckDB; write the array out",
        "sha256": "gives bytes in Athena and a text in DuckDB; compare the values themselves",
        "soundex": "has no equal in DuckDB; use levenshtein_distance",
        "split_to_map": "has no equal in DuckDB; use split and element_at",
        "to_iso8601": "writes the digits of the type in Athena; use date_format",
        "typeof": "names types as Athena does, which are others here; leave it out",
        "url_extract_host": "has no equal in DuckDB; use regexp_extract",
        "with_timezone": "gives a time that keeps its zone, which only UTC is here; shift it with date_add",
        "zip": "makes rows whose fields have no names; use zip_with",
    }
)
"""Why a function that a person may try is not answered, and what to write instead."""

SYNTAX: frozenset[str] = _words(
    """
    Add Alias All And Any Array Between Boolean Bracket Case Cast Column ColumnDef CTE Cube CurrentDate CurrentTimestamp
    DataType DataTypeParam Distinct Div Dot DPipe EQ Escape Except Exists Extract Fetch Filter From GT GTE Group
    GroupingSets Having Identifier IgnoreNulls In Intersect Interval IntervalSpan Is Join LT LTE Lambda Like Limit
    LimitOptions Literal Localtimestamp Mod Mul NEQ Neg Not Null NullSafeEQ NullSafeNEQ Offset Or Order Ordered Paren
    RespectNulls Rollup Select Star Sub Subquery Table TableAlias TryCast Tuple Union Unnest Values Var Where Window
    WindowSpec With WithinGroup JSONPath JSONPathKey JSONPathRoot JSONPathSubscript
    """
)
"""The kinds of syntax (as sqlglot names them) that a statement may be made of, functions aside."""

UNKNOWN_SYNTAX: Mapping[str, str] = MappingProxyType(
    {
        "AtTimeZone": "AT TIME ZONE gives a time that keeps its zone, which only UTC is here; shift it with date_add",
        "Collate": "COLLATE is no part of Athena's SQL; compare lower(...) instead",
        "ILike": "ILIKE is no part of Athena's SQL; write lower(...) LIKE",
        "Lateral": "LATERAL is not answered locally; join a subquery or UNNEST",
        "MatchRecognize": "MATCH_RECOGNIZE has no equal in DuckDB; use window functions",
        "Parameter": "a statement cannot have parameters here; write the value out",
        "Pivot": "PIVOT is no part of Athena's SQL; use count(*) FILTER (WHERE ...)",
        "Placeholder": "a statement cannot have parameters here; write the value out",
        "Qualify": "QUALIFY is no part of Athena's SQL; filter in an outer SELECT",
        "SessionParameter": "a statement cannot have parameters here; write the value out",
        "TableSample": "a sample has other rows every time; use ORDER BY and LIMIT",
    }
)
"""Why a kind of syntax that a person may try is not answered, and what to write instead."""

TYPES: frozenset[str] = _words(
    """
    ARRAY BIGINT BOOLEAN DATE DECIMAL DOUBLE FLOAT INT JSON MAP NULL SMALLINT STRUCT TIMESTAMP TIMESTAMPTZ TINYINT
    VARCHAR
    """
)
"""The types (as sqlglot names them) that a statement may cast to."""

DATE_FORMATS: frozenset[str] = frozenset("YmdHMSfBbAajpIy%")
"""The letters of DuckDB's formats that those of `date_format` and `date_parse` are translated to without loss."""

RETURNS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("nan", "infinity", "geometric_mean"), "DOUBLE"),
        "histogram": "MAP(VARCHAR, BIGINT)",
        **dict.fromkeys(("codepoint", "hamming_distance", "json_array_length", "millisecond", "yow"), "BIGINT"),
        **dict.fromkeys(("all_match", "any_match", "arrays_overlap", "every", "none_match"), "BOOLEAN"),
    }
)
"""The types of functions that sqlglot does not know, by name."""
