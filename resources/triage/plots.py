"""The plot of a matrix: failure rate against step time, as a Vega-Lite specification.

Belongs here: what it shows. Not here: rendering and files (`resources.plots`), the numbers (`core.triage.matrix`). Importing the
plotting library costs about a second, so it is imported when a plot is made.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlcc_dagster.core.triage.cell_evidence import beta_interval
from mlcc_dagster.core.triage.confound import Tag

if TYPE_CHECKING:
    import altair as alt

COLOURS: Mapping[Tag, str] = {
    Tag.BASELINE: "#37474f",
    Tag.CREDITED: "#2e7d32",
    Tag.UNDECIDED: "#9e9d24",
    Tag.NO_EFFECT: "#78909c",
    Tag.SPEED: "#ef6c00",
    Tag.CONFOUNDED: "#c62828",
}
"""A colour per tag that can stand in the plot: one with failures and step times."""

CONTROL = "delay control"
_CONTROL_COLOUR = "#6a1b9a"


def failure_plot(matrix: Mapping[str, Any]) -> "alt.TopLevelMixin":
    """Return the cells of a `matrix.json` document as points: mean step time in ms, failure rate in percent with its 95 % Beta
    interval, colour by tag; the broken line is the threshold above which a cell is tagged `speed`, and dots lead from a cell to
    its delay control.

    Cells without a verdict or without step times are left out. Raises `ValueError` where none is left.
    """
    import altair as alt

    points = [point for cell in matrix["cells"] for point in _points(cell)]
    if not points:
        raise ValueError("no cell has failures and step times; let the workload time its steps")
    shown = list(dict.fromkeys(str(point["tag"]) for point in points))
    colours = {tag.value: colour for tag, colour in COLOURS.items()} | {CONTROL: _CONTROL_COLOUR}
    chart = alt.Chart(alt.Data(values=points))
    x = alt.X("step_ms:Q", title="mean step time (ms)", scale=alt.Scale(zero=False, nice=True, padding=30))
    y = alt.Y("rate:Q", title="failure rate (%)", scale=alt.Scale(domain=[0, 100]))
    colour = alt.Color(
        "tag:N",
        title=None,
        scale=alt.Scale(domain=shown, range=[colours.get(tag, "#90a4ae") for tag in shown]),
    )
    layers: list[Any] = []
    limit = _limit(matrix)
    if limit is not None:
        rule = alt.Chart(alt.Data(values=[{"step_ms": limit}])).mark_rule(strokeDash=[4, 4], color="#90a4ae")
        layers.append(rule.encode(x="step_ms:Q"))
    layers += [
        chart.mark_rule(strokeWidth=1.5, opacity=0.6).encode(
            x, alt.Y("low:Q", title="failure rate (%)"), y2="high:Q", color=colour
        ),
        chart.mark_line(strokeDash=[1, 4], color=_CONTROL_COLOUR).encode(x, y, detail="pair:N"),
        chart.mark_point(filled=True, size=80, opacity=1).encode(
            x, y, color=colour, shape=alt.Shape("kind:N", legend=None), tooltip=["cell:N", "text:N", "counts:N"]
        ),
        *(
            chart.transform_filter(f"datum.kind == '{kind}'")
            .mark_text(align="left", dx=8, dy=lifted, fontSize=11)
            .encode(x, y, text="cell:N")
            # what lies at one height must not be written over each other
            for kind, lifted in (("cell", -7), ("control", -22))
        ),
    ]
    return alt.layer(*layers).properties(width=520, height=300, title=f"{matrix['workload']}: failures and speed")


def _points(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    confound = cell["confound"]
    control = confound.get("delay_control")
    own = _point(cell["name"], cell["statistics"], confound["tag"], confound["text"], "cell")
    other = None
    if control is not None:
        text = f"the baseline slowed by {control['delay_ms']:.3g} ms a step"
        other = _point("its control", control["statistics"], CONTROL, text, "control")
    found = [point for point in (own, other) if point is not None]
    return [point | {"pair": cell["name"]} for point in found]


def _point(name: str, statistics: Mapping[str, Any], tag: str, text: str, kind: str) -> dict[str, Any] | None:
    step, rate = statistics["mean_step_time_ms"], statistics["failure_rate"]
    if step is None or rate is None:
        return None
    verdicts = statistics["passed"] + statistics["failed"]
    low, high = beta_interval(statistics["failed"], verdicts)
    return {
        "cell": name,
        "tag": tag,
        "text": text,
        "kind": kind,
        "counts": f"{statistics['failed']} of {verdicts} failed",
        "step_ms": step,
        "rate": 100 * rate,
        "low": 100 * low,
        "high": 100 * high,
    }


def _limit(matrix: Mapping[str, Any]) -> float | None:
    """Return the step time above which a cell is tagged `speed`, in ms; none where the baseline has none."""
    base = next(cell for cell in matrix["cells"] if cell["name"] == matrix["baseline_cell"])
    mean = base["statistics"]["mean_step_time_ms"]
    return None if mean is None else mean * matrix["confound_threshold"]
