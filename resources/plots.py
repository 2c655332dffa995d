"""Plots of what is known, as Vega-Lite specifications and as SVG: the same for metadata, pages and files.

Belongs here: what a plot shows and its rendering. Not here: the numbers (`core.coverage`, the result rows), where it is shown.
Importing the plotting libraries costs about a second, so they are imported when a plot is made.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcc_dagster.core.calibration import Bin
from mlcc_dagster.core.coverage import Coverage, matrix
from mlcc_dagster.core.study import Comparison

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


def performance_plot(rows: Iterable[Mapping[str, Any]]) -> "alt.Chart | None":
    """Return latency against throughput, one point per concurrency level of each configuration's newest measured run.

    None where no row has both. Rows of different executors never share a plot; the caller passes those of one.
    """
    import altair as alt

    newest: dict[str, str] = {}
    measured = [r for r in rows if r["request_throughput_rps"] is not None and r["e2e_latency_p99_ms"] is not None]
    for row in measured:
        newest[row["config_id"]] = max(newest.get(row["config_id"], ""), row["run_timestamp"])
    if not measured:
        return None
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


def study_plot(comparisons: Sequence[Comparison]) -> "alt.TopLevelMixin":
    """Return the share of working pairs covered against USD spent: a line per strategy with the interval of its mean, a
    panel per kind of worlds."""
    import altair as alt

    values = [
        {"kind": each.kind.name, "strategy": name, "usd": usd, "share": mean.mean}
        | {"low": mean.mean if mean.low is None else mean.low, "high": mean.mean if mean.high is None else mean.high}
        for each in comparisons
        for name in each.walks
        for usd, mean in each.curve(name)
    ]
    order = list(dict.fromkeys(value["strategy"] for value in values))
    # The bands are faint, and the symbols of a legend that they share would be so too.
    legend = alt.Legend(labelLimit=300, orient="bottom", symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3)
    colour = alt.Color("strategy:N", sort=order, title=None, legend=legend)
    share = alt.Y("share:Q", title="share of working pairs covered", scale=alt.Scale(domain=[0, 1]))
    lines = alt.Chart().mark_line().encode(x=alt.X("usd:Q", title="USD spent"), y=share, color=colour)
    bands = alt.Chart().mark_area(opacity=0.2).encode(x="usd:Q", y="low:Q", y2="high:Q", color=colour)
    layered = alt.layer(bands, lines, data=alt.Data(values=values)).properties(width=300, height=200)
    if len(comparisons) < 2:
        return layered
    panels = alt.Facet("kind:N", title=None, sort=[each.kind.name for each in comparisons])
    return layered.facet(panels, columns=3)


def reliability_plot(bins: Sequence[Bin]) -> "alt.TopLevelMixin":
    """Return how often predictions of a size came true, against the line where they always mean what they say; the area of
    a point is how many predictions it stands for."""
    import altair as alt

    values = [{"predicted": each.predicted, "observed": each.observed, "count": each.count} for each in bins]
    whole = alt.Scale(domain=[0, 1])
    points = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("predicted:Q", title="predicted odds", scale=whole),
        y=alt.Y("observed:Q", title="share that was proven", scale=whole),
        size=alt.Size("count:Q", title="trials", scale=alt.Scale(domainMin=0, range=[30, 500])),
    )
    ends = alt.Data(values=[{"predicted": 0, "observed": 0}, {"predicted": 1, "observed": 1}])
    line = alt.Chart(ends).mark_line(strokeDash=[4, 4], color="#90a4ae").encode(x="predicted:Q", y="observed:Q")
    return alt.layer(line, points.mark_circle(color="#2e7d32", opacity=0.8)).properties(width=260, height=260)


def save(chart: "alt.TopLevelMixin", path: Path) -> None:
    """Write a plot to an .svg or .png file, whole or not at all. Raises `OSError` where it cannot be written."""
    import vl_convert

    document = chart.to_dict()
    content = svg(chart).encode() if path.suffix.lower() == ".svg" else vl_convert.vegalite_to_png(document, scale=2)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def svg(chart: "alt.TopLevelMixin") -> str:
    """Render a plot to SVG text, on this machine, without a browser or the network."""
    import vl_convert

    return vl_convert.vegalite_to_svg(chart.to_dict())


def png_markdown(chart: "alt.TopLevelMixin", title: str) -> str:
    """Render a plot to a Markdown image with its data inside, as Dagster's metadata shows it."""
    import vl_convert

    data = base64.b64encode(vl_convert.vegalite_to_png(chart.to_dict())).decode()
    return f"![{title}](data:image/png;base64,{data})"
