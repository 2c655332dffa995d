"""How much the commands cost beyond what they cannot do without."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.pairs import Comparison, command, compare

MLCC = str(Path(sys.executable).with_name("mlcc"))


def measure() -> Iterator[Comparison]:
    """Compare whole processes: help against typer and rich, gaps and sql against pyarrow and duckdb."""
    with tempfile.TemporaryDirectory() as home:
        here = {"MLCC_HOME": home}
        command([MLCC, "gaps"], here)()
        yield compare(
            "mlcc --help / python -c 'import typer, rich'",
            command([MLCC, "--help"]),
            command([sys.executable, "-c", "import typer, rich"]),
        )
        floor = command([sys.executable, "-c", "import pyarrow, duckdb"])
        yield compare("mlcc gaps / python -c 'import pyarrow, duckdb'", command([MLCC, "gaps"], here), floor)
        select = "SELECT count(*) AS n FROM mlcc_ci.benchmark_results"
        yield compare("mlcc sql / python -c 'import pyarrow, duckdb'", command([MLCC, "sql", select], here), floor)
