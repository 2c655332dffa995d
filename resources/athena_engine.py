"""Answering one SELECT on Athena itself: the text goes there unchanged, the rows come back typed.

Belongs here: the connection (PyAthena's), the time limit, what can go wrong as one sentence. Not here: answering locally
(`sql_engine.py`), what a statement may be (`sql_statements.py`). Nothing but the command imports it, since boto3 costs a second.

Source: the specification, "SQL once, two engines". Credentials, region and endpoint are found as boto3 finds them everywhere:
environment, profile, instance role.
"""

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resources.settings import Settings
from resources.sql_statements import SqlError, one_select

if TYPE_CHECKING:
    import pyarrow as pa
    from pyathena.cursor import Cursor

DATABASE = "mlcc_ci"
"""The Glue database of the results."""

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class AthenaEngine:
    """Asks Athena. `workgroup` is where a query is charged and limited; `output` the S3 address of its result, none where the
    workgroup says it; `seconds` is how long a query may take before it is stopped there too."""

    workgroup: str
    output: str | None
    region: str | None
    seconds: float
    poll_seconds: float = field(default=POLL_SECONDS, repr=False)

    @classmethod
    def of(cls, settings: Settings, *, seconds: float | None = None) -> "AthenaEngine":
        """Return the engine that the settings describe."""
        return cls(
            settings.athena_workgroup,
            settings.athena_output,
            settings.aws_region,
            settings.sql_seconds if seconds is None else seconds,
        )

    def query(self, sql: str) -> "pa.Table":
        """Return the rows of one SELECT, columns in its order and under its names.

        Integers, doubles, decimals, booleans, dates and timestamps come typed, arrays and maps as PyAthena reads them. Raises
        `SqlError` for anything but one SELECT, what Athena refuses in its own words, a query beyond its time, and an account
        that cannot be reached.
        """
        import pyarrow as pa

        one_select(sql)
        cursor = self._executed(sql)
        columns = [str(column[0]) for column in cursor.description or ()]
        rows = cursor.fetchall()
        values = [_column([row[position] for row in rows]) for position in range(len(columns))]
        return pa.Table.from_arrays(values, names=columns)

    def _executed(self, sql: str) -> "Cursor":
        from botocore.exceptions import BotoCoreError, ClientError
        from pyathena import connect
        from pyathena.error import Error

        # it logs what it raises, with a traceback; a command says it in one sentence
        logging.getLogger("pyathena").setLevel(logging.CRITICAL)
        stopped = threading.Event()
        timers: list[threading.Timer] = []
        try:
            connection = connect(
                work_group=self.workgroup,
                s3_staging_dir=self.output,
                region_name=self.region,
                schema_name=DATABASE,
                poll_interval=self.poll_seconds,
            )

            def stop(query_id: str) -> None:
                stopped.set()
                connection.client.stop_query_execution(QueryExecutionId=query_id)

            def limit(query_id: str) -> None:
                timers.append(threading.Timer(self.seconds, stop, [query_id]))
                timers[-1].daemon = True
                timers[-1].start()

            return connection.cursor().execute(sql, on_start_query_execution=limit)
        except (Error, BotoCoreError, ClientError, AssertionError) as error:
            if stopped.is_set():
                raise SqlError(
                    f"the query ran longer than {self.seconds:g} s and was stopped; ask for less, or give more with --seconds"
                ) from error
            raise SqlError(_sentence(_first(error))) from error
        finally:
            for timer in timers:
                timer.cancel()


def _column(values: list[Any]) -> "pa.Array":
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        # values of several kinds in one column, such as a map whose values are rows: as they read
        return pa.array([None if value is None else str(value) for value in values])


def _first(error: BaseException) -> BaseException:
    """Return what an error was raised from in the first place: PyAthena wraps what boto3 raises."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _sentence(error: BaseException) -> str:
    """Return what Athena or the way to it refused, and what to do."""
    said = " ".join(str(error).split())
    name = type(error).__name__
    if name in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
        return f"no AWS credentials ({said}); log in, or set AWS_PROFILE"
    if name in ("NoRegionError", "AssertionError") and "region" in said.lower():
        return "no AWS region; set AWS_REGION, or aws_region in the settings"
    if name in ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError", "ProxyConnectionError"):
        return f"Athena cannot be reached ({said}); check the network and the region"
    return f"Athena refused the query: {said}; correct it, or the settings athena_workgroup and athena_output"
