"""Plots of what is known, as Vega-Lite specifications and as SVG: the same for metadata, pages and files.

Belongs here: what a plot shows and its rendering. Not here: the numbers (`core.coverage`, the result rows), where it is shown.
Importing the plotting libraries costs about a second, so they are imported when a plot is made.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mlcc_dagster.core.coverage import Coverage, matrix

if TYPE_CHECKING:
    import altair as alt


def coverage_plot(coverage: Coverage, rows: str, columns: str) -> "alt.TopLevelMixin":
    """Return two dimensions crossed as tiles: shade by the proven share, `proven/possible` as text, empty where
    constraints leave nothing possible."""
    import altair as alt

    crossed = matrix(coverage, rows, columns)
    values = [
        {
            rows: row,
            columns: column,
            "share": len(cell.proven) / cell.possible,
            "text": f"{len(cell.proven)}/{cell.possible}",
        }
        for (row, column), cell in crossed.cells.items()
        if cell.possible
    ]
    tiles = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X(f"{columns}:N", title=columns, axis=alt.Axis(labelAngle=0)),
        y=alt.Y(f"{rows}:N", title=rows),
    )
    shade = alt.Scale(domain=[0, 1], range=["#eceff1", "#2e7d32"])
    colour = alt.Color("share:Q", scale=shade, legend=alt.Legend(format="%", title="proven"))
    dark = alt.condition("datum.share > 0.6", alt.value("white"), alt.value("black"))
    return (
        alt.layer(
            tiles.mark_rect(stroke="white", strokeWidth=2).encode(color=colour),
            tiles.mark_text(fontSize=13).encode(text="text:N", color=dark),
        )
        .properties(width=alt.Step(110), height=alt.Step(36))
        .configure_view(stroke=None)
    )


def performance_plot(rows: Iterable[Mapping[str, Any]]) -> "alt.Chart":
    """Return latency against throughput, one point per concurrency level of each configuration's newest measured run.

    Rows of different executors never share a plot; the caller passes those of one.
    """
    import altair as alt

    newest: dict[str, str] = {}
    measured = [r for r in rows if r["request_throughput_rps"] is not None and r["e2e_latency_p99_ms"] is not None]
    for row in measured:
        newest[row["config_id"]] = max(newest.get(row["config_id"], ""), row["run_timestamp"])

    values = [
        {
            "configuration": " ".join(
                text
                for text in (row["deployment_config"], row["model_family"], row["quantization"], row["instance_type"])
                if text != "none"
            ),
            "concurrency": row["concurrency"],
            "throughput": row["request_throughput_rps"],
            "latency": row["e2e_latency_p99_ms"],
        }
        for row in measured
        if row["run_timestamp"] == newest[row["config_id"]]
    ]
    return (
        alt.Chart(alt.Data(values=values))
        .mark_line(point=alt.OverlayMarkDef(size=70))
        .encode(
            x=alt.X("throughput:Q", title="throughput (requests/s)", scale=alt.Scale(zero=False)),
            y=alt.Y("latency:Q", title="request latency p99 (ms)", scale=alt.Scale(zero=False)),
            color=alt.Color("configuration:N", title=None, legend=alt.Legend(labelLimit=420)),
            order="concurrency:Q",
        )
        .properties(width=360, height=210)
    )


def svg(chart: "alt.TopLevelMixin") -> str:
    """Render a plot to SVG text, on this machine, without a browser or the network."""
    import vl_convert

    return vl_convert.vegalite_to_svg(chart.to_dict())


def png_markdown(chart: "alt.TopLevelMixin", title: str) -> str:
    """Render a plot to a Markdown image with its data inside, as Dagster's metadata shows it."""
    import vl_convert

    data = base64.b64encode(vl_convert.vegalite_to_png(chart.to_dict())).decode()
    return f"![{title}](data:image/png;base64,{data})"
