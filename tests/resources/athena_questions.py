"""Questions in Athena's SQL over six rows, with the answers that a person worked out from Trino's documentation and source.

Tests of the local engine compare its answers with these; tests of the grammar read the same texts. No answer here was computed by a
query: each is written out, and the reason says where the engines part.
"""

import datetime
from typing import Any, NamedTuple

FULL = "2026-06-01T23:30:00.000000Z"

ROWS: tuple[dict[str, Any], ...] = (
    # a Monday, half an hour before midnight
    {
        "run_id": "c1-g1", "concurrency": 1, "model_family": "llama", "instance_type": "ml.g5.xlarge", "ttft_p50_ms": 10.0,
        "output_token_throughput_tps": 100.0, "cost_usd": 0.5, "run_timestamp": FULL,
        "stage_seconds": '{"deploy": 120, "test": 30, "phases": ["pull", "load"]}',
    },
    {
        "run_id": "c1-g1", "concurrency": 4, "model_family": "llama", "instance_type": "ml.g5.xlarge", "ttft_p50_ms": 40.0,
        "output_token_throughput_tps": 300.0, "cost_usd": 0.5, "run_timestamp": FULL,
        "stage_seconds": '{"deploy": 120, "test": 30, "phases": ["pull", "load"]}',
    },
    # the Monday after
    {
        "run_id": "c1-g2", "concurrency": 1, "model_family": "llama", "instance_type": "ml.g5.xlarge", "ttft_p50_ms": 20.0,
        "output_token_throughput_tps": 80.0, "cost_usd": 0.25, "run_timestamp": "2026-06-08T01:15:30.500000Z",
        "stage_seconds": '{"deploy": 100, "test": null}',
    },
    # a Sunday; nothing is known of its throughput and its cost
    {
        "run_id": "c2-g1", "concurrency": 1, "model_family": "qwen", "instance_type": "ml.g6.12xlarge", "ttft_p50_ms": 30.0,
        "run_timestamp": "2026-06-07T12:00:00.000000Z", "tensor_parallel_degree": 4,
        "stage_seconds": '{"deploy": {"wait": 90}}',
    },
    # the Sunday before
    {
        "run_id": "c3-g1", "concurrency": 0, "model_family": "qwen", "instance_type": "ml.g6.xlarge", "status": "failed",
        "failure_reason": "CUDA out of memory: tried 2.50 GiB of 22.00 GiB", "cost_usd": 0.125,
        "run_timestamp": "2026-05-31T00:00:00.000000Z",
    },
    # a Tuesday
    {
        "run_id": "c4-g1", "concurrency": 0, "model_family": "llama", "instance_type": "ml.g5.2xlarge", "status": "unfeasible",
        "failure_reason": "needs 48 GB, has 24 GB", "cost_usd": 0.0, "tensor_parallel_degree": 2,
        "run_timestamp": "2026-06-02T06:00:00.000000Z",
    },
)  # fmt: skip
"""What is asked about: four completed levels of three runs, a failed and an unfeasible one. What is not named is as in
`result_rows.row`."""


class Question(NamedTuple):
    """A statement, its rows in their order (or in any, where `ordered` is not set), and what the answer turns on."""

    sql: str
    rows: list[tuple[Any, ...]]
    reason: str
    ordered: bool = True


def day(month: int, number: int) -> datetime.date:
    return datetime.date(2026, month, number)


DOCUMENTED = (
    """SELECT config_id, model_family, instance_family, deployment_config, status FROM mlcc_ci.benchmark_results
    WHERE run_type = 'path_prove' ORDER BY run_timestamp DESC LIMIT 20;""",
    """SELECT config_id, model_family, instance_family, deployment_config, failure_reason FROM
    mlcc_ci.benchmark_results WHERE status = 'unfeasible' ORDER BY run_timestamp DESC;""",
    """SELECT model_family, instance_family, COUNT(*) as proven_count FROM mlcc_ci.benchmark_results
    WHERE status = 'completed' GROUP BY model_family, instance_family ORDER BY proven_count DESC;""",
)
"""The three queries that must run unchanged."""

QUESTIONS: tuple[Question, ...] = (
    # ---- windows
    Question(
        "SELECT run_id, concurrency, row_number() OVER (PARTITION BY config_id ORDER BY run_timestamp DESC, concurrency) AS n "
        "FROM mlcc_ci.benchmark_results WHERE status = 'completed' ORDER BY config_id, n",
        [("c1-g2", 1, 1), ("c1-g1", 1, 2), ("c1-g1", 4, 3), ("c2-g1", 1, 1)],
        "numbers within a partition",
    ),
    Question(
        "SELECT run_id, ttft_p50_ms, lag(ttft_p50_ms) OVER (ORDER BY ttft_p50_ms) AS before, "
        "lead(ttft_p50_ms, 1, -1e0) OVER (ORDER BY ttft_p50_ms) AS after "
        "FROM mlcc_ci.benchmark_results WHERE ttft_p50_ms IS NOT NULL ORDER BY ttft_p50_ms",
        [
            ("c1-g1", 10.0, None, 20.0),
            ("c1-g2", 20.0, 10.0, 30.0),
            ("c2-g1", 30.0, 20.0, 40.0),
            ("c1-g1", 40.0, 30.0, -1.0),
        ],
        "neighbours, with and without a default",
    ),
    Question(
        "SELECT run_id, rank() OVER (ORDER BY cost_usd DESC) AS place, dense_rank() OVER (ORDER BY cost_usd DESC) AS level "
        "FROM mlcc_ci.benchmark_results ORDER BY place, run_id, concurrency",
        [("c1-g1", 1, 1), ("c1-g1", 1, 1), ("c1-g2", 3, 2), ("c3-g1", 4, 3), ("c4-g1", 5, 4), ("c2-g1", 6, 5)],
        "a NULL comes last in either direction, also within a window",
    ),
    Question(
        "SELECT run_id, sum(cost_usd) OVER (ORDER BY run_timestamp, concurrency ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) "
        "AS spent FROM mlcc_ci.benchmark_results ORDER BY run_timestamp, concurrency",
        [("c3-g1", 0.125), ("c1-g1", 0.625), ("c1-g1", 1.125), ("c4-g1", 1.125), ("c2-g1", 1.125), ("c1-g2", 1.375)],
        "a running sum; a NULL adds nothing",
    ),
    Question(
        "SELECT DISTINCT model_family, first_value(run_id) OVER (PARTITION BY model_family ORDER BY run_timestamp) AS first_run, "
        "last_value(run_id) OVER (PARTITION BY model_family ORDER BY run_timestamp "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS last_run FROM mlcc_ci.benchmark_results ORDER BY 1",
        [("llama", "c1-g1", "c1-g2"), ("qwen", "c3-g1", "c2-g1")],
        "ends of a frame",
    ),
    Question(
        "SELECT run_id, ntile(2) OVER (ORDER BY run_timestamp, concurrency) AS half, "
        "nth_value(run_id, 2) OVER (ORDER BY run_timestamp, concurrency "
        "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS second "
        "FROM mlcc_ci.benchmark_results WHERE status = 'completed' ORDER BY run_timestamp, concurrency",
        [("c1-g1", 1, "c1-g1"), ("c1-g1", 1, "c1-g1"), ("c2-g1", 2, "c1-g1"), ("c1-g2", 2, "c1-g1")],
        "groups of rows, and the second of all",
    ),
    Question(
        "SELECT run_id, last_value(output_token_throughput_tps) IGNORE NULLS OVER (ORDER BY run_timestamp, concurrency) AS known "
        "FROM mlcc_ci.benchmark_results WHERE status = 'completed' ORDER BY run_timestamp, concurrency",
        [("c1-g1", 100.0), ("c1-g1", 300.0), ("c2-g1", 300.0), ("c1-g2", 80.0)],
        "IGNORE NULLS carries the last known value on",
    ),
    Question(
        "SELECT run_id, percent_rank() OVER w AS share, cume_dist() OVER w AS upto FROM mlcc_ci.benchmark_results "
        "WHERE ttft_p50_ms IS NOT NULL WINDOW w AS (ORDER BY ttft_p50_ms) ORDER BY upto",
        [("c1-g1", 0.0, 0.25), ("c1-g2", 1 / 3, 0.5), ("c2-g1", 2 / 3, 0.75), ("c1-g1", 1.0, 1.0)],
        "a named window",
    ),
    # ---- aggregates
    Question(
        "SELECT approx_percentile(ttft_p50_ms, 0.5) AS p50, approx_percentile(ttft_p50_ms, ARRAY[0.25, 0.5, 0.99]) AS several "
        "FROM mlcc_ci.benchmark_results",
        [(30.0, [20.0, 30.0, 40.0])],
        "a value that is there, never one between: of 10, 20, 30, 40 those at floor(4 p) from 0",
    ),
    Question(
        "SELECT approx_percentile(concurrency, 0.5) AS whole, approx_percentile(ttft_p50_ms, 0.5) FILTER (WHERE concurrency = 1) "
        "AS some FROM mlcc_ci.benchmark_results",
        [(1, 20.0)],
        "whole numbers stay whole: of 0, 0, 1, 1, 1, 4 that at place 3 from 0; with a FILTER of 10, 20, 30 that at place 1",
    ),
    Question(
        "SELECT model_family, approx_distinct(instance_type) AS instances, count(DISTINCT config_id) AS configs "
        "FROM mlcc_ci.benchmark_results GROUP BY model_family ORDER BY 1",
        [("llama", 2, 2), ("qwen", 2, 2)],
        "few distinct values are counted right",
    ),
    Question(
        "SELECT count(*) FILTER (WHERE status = 'completed') AS done, count_if(cost_usd > 0.2e0) AS paid, "
        "sum(cost_usd) FILTER (WHERE status = 'nothing') AS nothing FROM mlcc_ci.benchmark_results",
        [(4, 3, None)],
        "FILTER; a sum of nothing is NULL",
    ),
    Question(
        "SELECT model_family, status, count(*) AS n, grouping(model_family, status) AS level FROM mlcc_ci.benchmark_results "
        "GROUP BY GROUPING SETS ((model_family, status), (model_family), ()) ORDER BY level, model_family, status",
        [
            ("llama", "completed", 3, 0),
            ("llama", "unfeasible", 1, 0),
            ("qwen", "completed", 1, 0),
            ("qwen", "failed", 1, 0),
            ("llama", None, 4, 1),
            ("qwen", None, 2, 1),
            (None, None, 6, 3),
        ],
        "GROUPING SETS, and the bits of grouping()",
    ),
    Question(
        "SELECT model_family, count(*) AS n FROM mlcc_ci.benchmark_results GROUP BY ROLLUP (model_family) ORDER BY 1",
        [("llama", 4), ("qwen", 2), (None, 6)],
        "ROLLUP; its total comes last",
    ),
    Question(
        "SELECT status, tp_degree, count(*) AS n FROM mlcc_ci.benchmark_results WHERE model_family = 'qwen' "
        "GROUP BY CUBE (status, tp_degree) ORDER BY status, tp_degree",
        [
            ("completed", 4, 1),
            ("completed", None, 1),
            ("failed", 1, 1),
            ("failed", None, 1),
            (None, 1, 1),
            (None, 4, 1),
            (None, None, 2),
        ],
        "CUBE",
    ),
    Question(
        "SELECT max_by(run_id, run_timestamp) AS newest, min_by(run_id, run_timestamp) AS oldest, "
        "max_by(output_token_throughput_tps, ttft_p50_ms) FILTER (WHERE concurrency = 1) AS slowest "
        "FROM mlcc_ci.benchmark_results",
        [("c1-g2", "c3-g1", None)],
        "the value of the extreme row also where it is NULL, which DuckDB passes over",
    ),
    Question(
        "SELECT array_agg(cost_usd ORDER BY cost_usd DESC) AS costs, array_agg(DISTINCT tp_degree ORDER BY tp_degree) AS degrees "
        "FROM mlcc_ci.benchmark_results",
        [([0.5, 0.5, 0.25, 0.125, 0.0, None], [1, 2, 4])],
        "array_agg keeps NULL, last in either direction",
    ),
    Question(
        "SELECT listagg(DISTINCT model_family, '+') WITHIN GROUP (ORDER BY model_family) AS families, "
        "map_agg(run_id, status) FILTER (WHERE concurrency = 0) AS ended FROM mlcc_ci.benchmark_results",
        [("llama+qwen", {"c3-g1": "failed", "c4-g1": "unfeasible"})],
        "texts and maps of groups",
    ),
    Question(
        "SELECT histogram(status) AS counted, cardinality(histogram(status)) AS n FROM mlcc_ci.benchmark_results",
        [({"completed": 4, "failed": 1, "unfeasible": 1}, 3)],
        "cardinality() of a map",
    ),
    Question(
        "SELECT bool_and(status = 'completed') AS everything, every(concurrency >= 0) AS counted, "
        "bool_or(cost_usd IS NULL) AS gap, arbitrary(workload) AS workload FROM mlcc_ci.benchmark_results",
        [(False, True, True, "sample")],
        "logical aggregates, one of them under the name of the standard",
    ),
    Question(
        "SELECT avg(concurrency) AS mean, avg(cost_usd) AS cost, stddev(ttft_p50_ms) AS spread, var_pop(ttft_p50_ms) AS variance "
        "FROM mlcc_ci.benchmark_results",
        [(7 / 6, 0.275, 12.909944487358056, 125.0)],
        "the mean of whole numbers is no whole number; NULL counts for nothing; stddev is of a sample: sqrt(500 / 3)",
    ),
    Question(
        "SELECT model_family, 100 * count_if(status = 'completed') / count(*) AS pct FROM mlcc_ci.benchmark_results "
        "GROUP BY model_family HAVING count(*) > 2",
        [("llama", 75)],
        "division of whole numbers truncates; HAVING",
    ),
    # ---- times
    Question(
        "SELECT run_id, date_trunc('week', CAST(from_iso8601_timestamp(run_timestamp) AS date)) AS week, "
        "day_of_week(CAST(from_iso8601_timestamp(run_timestamp) AS date)) AS dow FROM mlcc_ci.benchmark_results "
        "WHERE concurrency < 2 ORDER BY run_timestamp",
        [
            ("c3-g1", day(5, 25), 7),
            ("c1-g1", day(6, 1), 1),
            ("c4-g1", day(6, 1), 2),
            ("c2-g1", day(6, 1), 7),
            ("c1-g2", day(6, 8), 1),
        ],
        "weeks begin on Monday and Sunday is day 7; a date cut is a date",
    ),
    Question(
        "WITH runs AS (SELECT DISTINCT run_id, from_iso8601_timestamp(run_timestamp) AS at FROM mlcc_ci.benchmark_results) "
        "SELECT run_id, date_diff('day', at, TIMESTAMP '2026-06-08 00:00:00 UTC') AS days, "
        "date_diff('week', at, TIMESTAMP '2026-06-08 00:00:00 UTC') AS weeks FROM runs ORDER BY run_id",
        [("c1-g1", 6, 0), ("c1-g2", 0, 0), ("c2-g1", 0, 0), ("c3-g1", 8, 1), ("c4-g1", 5, 0)],
        "whole days and weeks, not midnights between: from 23:30 on the 1st to the 8th it is six",
    ),
    Question(
        "SELECT run_id, date_add('month', 1, CAST(substr(run_timestamp, 1, 10) AS date)) AS next, "
        "CAST(substr(run_timestamp, 1, 10) AS date) - INTERVAL '1' DAY AS before FROM mlcc_ci.benchmark_results "
        "WHERE concurrency = 0 ORDER BY run_id",
        [("c3-g1", day(6, 30), day(5, 30)), ("c4-g1", day(7, 2), day(6, 1))],
        "a month behind 31 May is the last of June, and dates stay dates",
    ),
    Question(
        "SELECT date_format(from_iso8601_timestamp(run_timestamp), '%Y/%m/%d %H:%i:%s %W') AS shown, "
        "to_unixtime(from_iso8601_timestamp(run_timestamp)) AS seconds FROM mlcc_ci.benchmark_results WHERE run_id = 'c1-g2'",
        [("2026/06/08 01:15:30 Monday", 1780881330.5)],
        "MySQL's letters; 20,612 days of 86,400 s from 1970 to 8 June 2026, and 4,530.5 s",
    ),
    Question(
        "SELECT year(at) AS y, quarter(at) AS q, week(at) AS w, hour(at) AS h, EXTRACT(DOW FROM at) AS d, millisecond(at) AS ms "
        "FROM (SELECT from_iso8601_timestamp(run_timestamp) AS at FROM mlcc_ci.benchmark_results WHERE run_id = 'c1-g2') AS t",
        [(2026, 2, 24, 1, 1, 500)],
        "parts of a time: 8 June 2026 is Monday of ISO week 24; milliseconds without the seconds",
    ),
    Question(
        "SELECT count(*) AS unread FROM mlcc_ci.benchmark_results WHERE TRY_CAST(run_timestamp AS timestamp) IS NULL",
        [(6,)],
        "a cast reads no T and no Z; DuckDB's does",
    ),
    Question(
        "SELECT date_parse(substr(run_timestamp, 1, 10), '%Y-%m-%d') AS at, "
        "last_day_of_month(from_iso8601_date('2026-02-01')) AS last FROM mlcc_ci.benchmark_results WHERE run_id = 'c3-g1'",
        [(datetime.datetime(2026, 5, 31), day(2, 28))],
        "a parsed time is a timestamp",
    ),
    # ---- JSON
    Question(
        "SELECT run_id, json_extract_scalar(stage_seconds, '$.deploy') AS deploy, "
        "json_extract_scalar(stage_seconds, '$.test') AS test FROM mlcc_ci.benchmark_results WHERE concurrency < 2 ORDER BY run_id",
        [
            ("c1-g1", "120", "30"),
            ("c1-g2", "100", None),
            ("c2-g1", None, None),
            ("c3-g1", None, None),
            ("c4-g1", None, None),
        ],
        "an object is no scalar, and null is NULL",
    ),
    Question(
        "SELECT json_extract_scalar(failure_reason, '$.code') AS code, json_array_length(failure_reason) AS n "
        "FROM mlcc_ci.benchmark_results WHERE run_id = 'c3-g1'",
        [(None, None)],
        "what is no JSON has nothing in it; DuckDB fails",
    ),
    Question(
        "SELECT CAST(json_extract(stage_seconds, '$.phases') AS array(varchar)) AS phases, "
        "CAST(json_extract(stage_seconds, '$.phases[1]') AS varchar) AS second, "
        "CAST(json_extract(stage_seconds, '$.deploy') AS double) / 60 AS minutes FROM mlcc_ci.benchmark_results "
        "WHERE run_id = 'c1-g1' AND concurrency = 1",
        [(["pull", "load"], "load", 2.0)],
        "a JSON text cast to varchar loses its quotes; JSON arrays count from 0",
    ),
    Question(
        "SELECT json_format(json_extract(stage_seconds, '$.deploy')) AS shown, CAST(MAP(ARRAY['a'], ARRAY[1]) AS json) AS made "
        "FROM mlcc_ci.benchmark_results WHERE run_id = 'c2-g1'",
        [('{"wait":90}', '{"a":1}')],
        "JSON written out",
    ),
    # ---- arrays, maps, rows
    Question(
        "SELECT run_id, phase, place FROM mlcc_ci.benchmark_results "
        "CROSS JOIN UNNEST(CAST(json_extract(stage_seconds, '$.phases') AS array(varchar))) WITH ORDINALITY AS t(phase, place) "
        "WHERE concurrency = 4 ORDER BY place",
        [("c1-g1", "pull", 1), ("c1-g1", "load", 2)],
        "UNNEST with its places, from 1; what has no array has no row",
    ),
    Question(
        "SELECT run_id, part FROM mlcc_ci.benchmark_results LEFT JOIN UNNEST(split(failure_reason, ',')) AS t(part) ON true "
        "WHERE concurrency = 0 OR concurrency = 4 ORDER BY run_id, part",
        [
            ("c1-g1", None),
            ("c3-g1", "CUDA out of memory: tried 2.50 GiB of 22.00 GiB"),
            ("c4-g1", " has 24 GB"),
            ("c4-g1", "needs 48 GB"),
        ],
        "a LEFT JOIN keeps what has nothing to unnest",
    ),
    Question(
        "SELECT name, size FROM UNNEST(ARRAY['a', 'b', 'c'], ARRAY[1, 2]) AS t(name, size) ORDER BY name",
        [("a", 1), ("b", 2), ("c", None)],
        "arrays side by side; the shorter is filled with NULL",
    ),
    Question(
        "SELECT stage, seconds FROM UNNEST(ARRAY[ROW('deploy', 120), ROW('test', 30)]) AS t(stage, seconds) ORDER BY seconds",
        [("test", 30), ("deploy", 120)],
        "an array of rows becomes a column for each field",
    ),
    Question(
        "SELECT CAST(ROW(run_id, cost_usd) AS ROW(run varchar, usd double)).usd AS usd, ROW(1, 'a') = ROW(1, 'a') AS same "
        "FROM mlcc_ci.benchmark_results WHERE run_id = 'c1-g2'",
        [(0.25, True)],
        "fields of a row by name",
    ),
    Question(
        "SELECT transform(degrees, d -> d * 2) AS twice, filter(degrees, d -> d > 1) AS several, "
        "any_match(degrees, d -> d = 4) AS four, all_match(degrees, d -> d > 1) AS all_several, "
        "none_match(degrees, d -> d > 8) AS none_eight "
        "FROM (SELECT array_agg(DISTINCT tp_degree ORDER BY tp_degree) AS degrees FROM mlcc_ci.benchmark_results) AS t",
        [([2, 4, 8], [2, 4], True, False, True)],
        "functions of elements",
    ),
    Question(
        "SELECT zip_with(ARRAY[1, 2, 3], ARRAY[10, 20], (x, y) -> x + COALESCE(y, 0)) AS sums, "
        "map_filter(MAP(ARRAY['a', 'b'], ARRAY[1, 2]), (k, v) -> v > 1) AS big, "
        "transform_values(MAP(ARRAY['a', 'b'], ARRAY[1, 2]), (k, v) -> k || CAST(v AS varchar)) AS named",
        [([11, 22, 3], {"b": 2}, {"a": "a1", "b": "b2"})],
        "functions of two arguments; zip_with fills the shorter array with NULL",
    ),
    Question(
        "SELECT parts[1] AS first, element_at(parts, -1) AS last, element_at(parts, 9) AS beyond, cardinality(parts) AS n, "
        "contains(parts, 'g5') AS has, array_position(parts, 'g6') AS place, slice(parts, 2, 2) AS rest "
        "FROM (SELECT split(instance_type, '.') AS parts FROM mlcc_ci.benchmark_results WHERE run_id = 'c4-g1') AS t",
        [("ml", "2xlarge", None, 3, True, 0, ["g5", "2xlarge"])],
        "places count from 1, 0 is nowhere; slice takes a length, where DuckDB takes an end",
    ),
    Question(
        "SELECT array_distinct(ARRAY[3, 1, 3, NULL, 2, NULL]) AS once, array_sort(ARRAY[3, NULL, 1]) AS sorted, "
        "array_max(ARRAY[1, NULL]) AS most, contains(ARRAY[1, NULL], 2) AS unsure, array_remove(ARRAY[1, NULL, 2], 2) AS kept, "
        "array_join(ARRAY['a', NULL, 'b'], ',') AS joined, flatten(ARRAY[ARRAY[1], ARRAY[2, 3]]) AS flat",
        [([3, 1, None, 2], [1, 3, None], None, None, [1, None], "a,b", [1, 2, 3])],
        "order of first occurrence, and NULL wherever an element is not known",
    ),
    Question(
        "SELECT element_at(m, 'b') AS missing, m['a'] AS there, map_keys(m) AS names, cardinality(m) AS n "
        "FROM (SELECT MAP(ARRAY['a'], ARRAY[1]) AS m) AS t",
        [(None, 1, ["a"], 1)],
        "maps: element_at has NULL where a subscript would fail",
    ),
    Question(
        "SELECT x FROM UNNEST(sequence(DATE '2026-05-30', DATE '2026-06-01')) AS t(x) ORDER BY x DESC",
        [(day(6, 1),), (day(5, 31),), (day(5, 30),)],
        "a sequence of days, which are dates",
    ),
    # ---- texts and numbers
    Question(
        "SELECT run_id, regexp_extract(failure_reason, '([0-9.]+) GiB', 1) AS gib, "
        "regexp_extract_all(failure_reason, '[0-9]+ GB') AS gb, regexp_like(failure_reason, '(?i)cuda') AS cuda, "
        "regexp_count(failure_reason, 'G') AS g FROM mlcc_ci.benchmark_results WHERE concurrency = 0 ORDER BY run_id",
        [("c3-g1", "2.50", [], True, 2), ("c4-g1", None, ["48 GB", "24 GB"], False, 2)],
        "no match is NULL, where DuckDB has an empty text",
    ),
    Question(
        "SELECT regexp_replace(instance_type, '^ml[.]([a-z0-9]+)[.](.*)$', '$2 of $1') AS turned, "
        "regexp_replace(instance_type, '[0-9]') AS bare, split_part(instance_type, '.', 3) AS size, "
        "split_part(instance_type, '.', 4) AS none FROM mlcc_ci.benchmark_results WHERE run_id = 'c4-g1'",
        [("2xlarge of g5", "ml.g.xlarge", "2xlarge", None)],
        "every match, groups as $n; a part that is not there is NULL",
    ),
    Question(
        "SELECT concat(model_family, '/', workload) AS path, concat(run_id, failure_reason) AS unknown, "
        "concat_ws(',', run_id, failure_reason, status) AS known, model_family || '-' || status AS joined "
        "FROM mlcc_ci.benchmark_results WHERE run_id = 'c2-g1'",
        [("qwen/sample", None, "c2-g1,completed", "qwen-completed")],
        "a text joined with NULL is NULL; only concat_ws leaves it out",
    ),
    Question(
        "SELECT CAST(2.5e0 AS integer) AS up, CAST(-2.5e0 AS bigint) AS down, TRY_CAST('2.5' AS integer) AS text_of_half, "
        "TRY_CAST('yes' AS boolean) AS yes, CAST('t' AS boolean) AS t, CAST('abc' AS varchar(2)) AS cut, "
        "TRY_CAST('2026-06-01 10:00' AS date) AS day",
        [(3, -3, None, None, True, "ab", None)],
        "halves round away from zero, and casts read less than DuckDB's",
    ),
    Question(
        "SELECT 7 / 2 AS whole, -7 / 2 AS negative, -7 % 3 AS rest, 7e0 / 2 AS half, try(1 / 0) AS nothing, 1e0 / 0 AS infinite, "
        "nan() = nan() AS same, nan() > 1e0 AS greater, greatest(1, NULL) AS unknown, round(-2.5e0) AS rounded",
        [(3, -3, -1, 3.5, None, float("inf"), False, False, None, -3.0)],
        "arithmetic: truncation toward zero, NaN equal to nothing, NULL among the greatest is NULL",
    ),
    # ---- shapes
    Question(
        "WITH ranked AS (SELECT config_id, run_id, row_number() OVER (PARTITION BY config_id ORDER BY run_timestamp DESC) AS n "
        "FROM mlcc_ci.benchmark_results WHERE status = 'completed'), newest AS (SELECT * FROM ranked WHERE n = 1) "
        "SELECT r.config_id, count(*) AS levels FROM mlcc_ci.benchmark_results r JOIN newest USING (config_id) "
        "GROUP BY r.config_id ORDER BY levels DESC",
        [("c1", 3), ("c2", 1)],
        "CTEs that build on each other, USING",
    ),
    Question(
        "SELECT config_id FROM mlcc_ci.benchmark_results WHERE status = 'completed' EXCEPT "
        "SELECT config_id FROM mlcc_ci.benchmark_results WHERE cost_usd IS NULL",
        [("c1",)],
        "a difference of sets",
    ),
    Question(
        "SELECT run_id FROM mlcc_ci.benchmark_results AS outside WHERE cost_usd = (SELECT max(cost_usd) FROM "
        "mlcc_ci.benchmark_results AS inside WHERE inside.model_family = outside.model_family) AND EXISTS (SELECT 1 FROM "
        "mlcc_ci.benchmark_results AS other WHERE other.config_id = outside.config_id "
        "AND other.concurrency > 1) ORDER BY concurrency",
        [("c1-g1",), ("c1-g1",)],
        "correlated subqueries",
    ),
    Question(
        "SELECT cost_usd FROM mlcc_ci.benchmark_results ORDER BY cost_usd DESC OFFSET 4 ROWS FETCH FIRST 2 ROWS ONLY",
        [(0.0,), (None,)],
        "OFFSET before FETCH; NULL last although the order is descending",
    ),
    Question(
        "SELECT run_id FROM mlcc_ci.benchmark_results WHERE model_family = ANY (SELECT model_family FROM mlcc_ci.benchmark_results "
        "WHERE status = 'failed') AND failure_reason IS NOT DISTINCT FROM NULL",
        [("c2-g1",)],
        "ANY, and equality with NULL",
    ),
    Question(
        "SELECT status, CASE WHEN cost_usd IS NULL THEN 'unknown' WHEN cost_usd BETWEEN 0 AND 0.2e0 THEN 'cheap' "
        "ELSE 'dear' END AS price, count(*) FROM mlcc_ci.benchmark_results GROUP BY 1, 2 ORDER BY 1, 2",
        [("completed", "dear", 3), ("completed", "unknown", 1), ("failed", "cheap", 1), ("unfeasible", "cheap", 1)],
        "CASE, and grouping by place",
    ),
)

BROKEN: tuple[tuple[str, str], ...] = (
    ("SELECT FROM mlcc_ci.benchmark_results WHERE", "nothing behind WHERE"),
    ("SELECT status, FROM mlcc_ci.benchmark_results", "a comma too many"),
    ("SELECT status FROM mlcc_ci.benchmark_results ORDER run_id", "ORDER without BY"),
    ("SELECT status FROM mlcc_ci.benchmark_results GROUP BY", "GROUP BY nothing"),
    ("SELECT (1 FROM mlcc_ci.benchmark_results", "a bracket left open"),
    ("SELECT 1::integer", "a cast of another dialect"),
    ("SELECT * EXCLUDE (status) FROM mlcc_ci.benchmark_results", "a star of another dialect"),
    ("SELECT status FROM mlcc_ci.benchmark_results QUALIFY row_number() OVER (ORDER BY run_id) = 1", "QUALIFY"),
    ("SELECT list_transform([1, 2], lambda x : x + 1)", "a function of another dialect"),
    ("SELECT status FROM mlcc_ci.benchmark_results LIMIT 5 OFFSET 2", "OFFSET behind LIMIT"),
)
"""Texts that are no SQL of Athena, with what is wrong with them."""
