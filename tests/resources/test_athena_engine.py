"""Asking Athena itself, against moto's server: the text arrives unchanged, the rows come back typed."""

import datetime
import json
import time
import urllib.request
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from resources.athena_engine import AthenaEngine
from resources.settings import Settings, read_settings
from resources.sql_models import shipped_project
from resources.sql_statements import SqlError

pytestmark = pytest.mark.slow

REGION = "us-east-1"
QUESTION = "SELECT approx_percentile(ttft_p50_ms, 0.5) AS p50  -- in ms\nFROM mlcc_ci.benchmark_results"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def account(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    urllib.request.urlopen(urllib.request.Request(f"{server}/moto-api/reset", method="POST"))
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return server


def answers(server: str, columns: dict[str, str], *rows: tuple[str | None, ...]) -> None:
    """Have the account answer the next query with these texts, as Athena sends them: a first row of names."""
    info = [
        {
            "CatalogName": "hive",
            "SchemaName": "",
            "TableName": "",
            "Name": name,
            "Label": name,
            "Type": kind,
            "Precision": 0,
            "Scale": 0,
            "Nullable": "UNKNOWN",
            "CaseSensitive": True,
        }
        for name, kind in columns.items()
    ]
    data = [
        {"Data": [{} if each is None else {"VarCharValue": each} for each in row]} for row in (tuple(columns), *rows)
    ]
    body = json.dumps({"region": REGION, "results": [{"rows": data, "column_info": info}]}).encode()
    urllib.request.urlopen(
        urllib.request.Request(
            f"{server}/moto-api/static/athena/query-results", data=body, headers={"Content-Type": "application/json"}
        )
    )


def engine(**changes: Any) -> AthenaEngine:
    values: dict[str, Any] = {"workgroup": "primary", "output": "s3://results/sql/", "region": REGION, "seconds": 30.0}
    return AthenaEngine(**(values | {"poll_seconds": 0.05} | changes))


def asked() -> list[dict[str, Any]]:
    client = boto3.client("athena", region_name=REGION)
    ids = client.list_query_executions()["QueryExecutionIds"]
    return [client.get_query_execution(QueryExecutionId=each)["QueryExecution"] for each in ids]


def test_the_text_arrives_unchanged_in_the_workgroup_and_database_of_the_results(account: str):
    answers(account, {"p50": "double"}, ("12.5",))
    assert engine().query(QUESTION).to_pylist() == [{"p50": 12.5}]
    (query,) = asked()
    assert query["Query"] == QUESTION
    assert query["WorkGroup"] == "primary"
    assert query["QueryExecutionContext"]["Database"] == "mlcc_ci"
    assert query["ResultConfiguration"]["OutputLocation"].startswith("s3://results/sql/")


@pytest.mark.parametrize(
    ("kind", "text", "value", "reason"),
    [
        ("varchar", "7", "7", "a text stays one"),
        ("bigint", "9007199254740993", 9007199254740993, "beyond a float's whole numbers"),
        ("integer", "3", 3, "a whole number"),
        ("double", "NaN", pytest.approx(float("nan"), nan_ok=True), "no number is one of the doubles"),
        ("decimal", "1.10", Decimal("1.10"), "its places stay"),
        ("boolean", "false", False, "not the text"),
        ("date", "2026-11-22", datetime.date(2026, 11, 22), "a day"),
        ("timestamp", "2026-11-22 10:20:44.000", datetime.datetime(2026, 11, 22, 10, 20, 44), "a time without zone"),
        ("double", None, None, "absent is absent"),
    ],
)
def test_a_value_comes_back_as_what_it_is(account: str, kind: str, text: str | None, value: Any, reason: str):
    answers(account, {"v": kind, "n": "integer"}, (text, "1"))
    assert engine().query("SELECT 1").to_pylist()[0]["v"] == value, reason


def test_no_rows_are_columns_without_values(account: str):
    answers(account, {"a": "varchar", "b": "double"})
    found = engine().query("SELECT 1")
    assert (found.column_names, found.num_rows) == (["a", "b"], 0)


def test_two_columns_of_one_name_both_stay(account: str):
    answers(account, {"a": "integer", "A": "integer"}, ("1", "2"))
    assert engine().query("SELECT 1").num_columns == 2


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DROP TABLE mlcc_ci.benchmark_results", "DROP is not allowed"),
        ("SELECT 1; SELECT 2", "2 statements where one SELECT is allowed"),
        ("UNLOAD (SELECT 1) TO 's3://elsewhere/'", "not allowed"),
        ("INSERT INTO t SELECT 1", "INSERT is not allowed"),
        ("", "there is no statement"),
        ("SELEC 1", ""),
    ],
)
def test_what_is_not_one_select_is_refused_here_and_never_sent(account: str, statement: str, said: str):
    with pytest.raises(SqlError, match=said):
        engine().query(statement)
    assert asked() == []


def test_a_workgroup_that_is_not_there_is_refused_in_the_words_of_athena(account: str):
    with pytest.raises(SqlError, match=r"Athena refused the query: .*athena_workgroup"):
        engine(workgroup="nobody").query("SELECT 1")


def test_without_credentials_the_sentence_says_so(account: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SqlError, match=r"no AWS credentials .*set AWS_PROFILE"):
        engine().query("SELECT 1")


def test_without_a_region_the_sentence_names_the_setting(account: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(SqlError, match="no AWS region; set AWS_REGION"):
        engine(region=None).query("SELECT 1")


def test_where_nobody_answers_it_says_that_athena_cannot_be_reached(account: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(SqlError, match="Athena cannot be reached"):
        engine().query("SELECT 1")


def test_a_query_beyond_its_time_is_stopped_there(account: str):
    body = json.dumps(
        {"model_name": "athena::execution", "transition": {"progression": "manual", "times": 10_000}}
    ).encode()
    urllib.request.urlopen(
        urllib.request.Request(
            f"{account}/moto-api/state-manager/set-transition",
            data=body,
            headers={"Content-Type": "application/json"},
        )
    )
    began = time.monotonic()
    try:
        with pytest.raises(SqlError, match=r"ran longer than 0\.3 s and was stopped"):
            engine(seconds=0.3).query("SELECT 1")
    finally:
        urllib.request.urlopen(
            urllib.request.Request(
                f"{account}/moto-api/state-manager/unset-transition",
                data=json.dumps({"model_name": "athena::execution"}).encode(),
                headers={"Content-Type": "application/json"},
            )
        )
    assert time.monotonic() - began < 20
    (query,) = asked()
    assert query["Status"]["State"] == "CANCELLED"


def test_every_shipped_query_and_model_is_one_that_can_be_sent():
    from resources.sql_statements import one_select

    project = shipped_project()
    for query in project.queries:
        one_select(query.sql)


def test_the_settings_say_where_to_ask(tmp_path: Path):
    path = tmp_path / "settings.yaml"
    path.write_text("athena_workgroup: ml\nathena_output: s3://b/x/\naws_region: eu-west-1\nsql_seconds: 9\n")
    assert AthenaEngine.of(read_settings(path)) == AthenaEngine("ml", "s3://b/x/", "eu-west-1", 9.0)
    assert AthenaEngine.of(Settings(), seconds=2).seconds == 2
