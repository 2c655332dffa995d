"""Plots of measured histories with their changes of level, as Vega-Lite specifications.

Belongs here: what such a plot shows. Not here: judging a history (`core.regressions`), rendering and files (`plots.py`).
Importing the plotting library costs about a second, so it is imported when a plot is made.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlcc_dagster.core.regressions import History

if TYPE_CHECKING:
    import altair as alt

WORSE, BETTER, LEVEL, RUNS, COLD = "#c62828", "#2e7d32", "#37474f", "#78909c", "#ef6c00"
WIDTH, HEIGHT = 620, 170

_LINES_APART = 5  # of a hundred: labels of changes nearer than this are put on lines of their own


def history_plot(found: Sequence[History], names: Sequence[str]) -> "alt.TopLevelMixin":
    """Return the histories below each other, `names` as their titles: every run, the levels between changes, each change
    with its size in percent (red where it is worse), what the newest level would reveal as a band, cold starts as orange
    triangles.

    Runs stand in their order, as they are judged: their times may be minutes or months apart. Raises `ValueError` without
    any.
    """
    import altair as alt

    if not found:
        raise ValueError("there is no history to plot; ask for one that was measured")
    panels = [_panel(each, name) for each, name in zip(found, names, strict=True)]
    return panels[0] if len(panels) == 1 else alt.vconcat(*panels, spacing=24)


def _panel(found: History, name: str) -> Any:
    import altair as alt

    runs = [
        {"run": place + 1, "value": value, "run_id": run.run_id, "at": run.at.isoformat(), "cold": place in found.cold}
        for place, (value, run) in enumerate(zip(found.values, found.runs, strict=True))
    ]
    first, last = found.runs[0].at, found.runs[-1].at
    x = alt.X(
        "run:Q",
        title=f"runs, {first:%Y-%m-%d} to {last:%Y-%m-%d}",
        scale=alt.Scale(domain=[0.5, len(runs) + 0.5], nice=False, zero=False),
        axis=alt.Axis(tickMinStep=1, format="d", grid=False),
    )
    y = alt.Y("value:Q", title=f"{found.metric.column}", scale=alt.Scale(zero=False))
    layers: list[Any] = []
    newest = found.levels[-1]
    if found.detectable_pct:
        reach = newest.mean * found.detectable_pct / 100
        band = {
            "run": newest.begin + 0.5,
            "end": newest.end + 0.5,
            "value": newest.mean - reach,
            "top": newest.mean + reach,
        }
        layers.append(
            alt.Chart(alt.Data(values=[band]))
            .mark_rect(color="#cfd8dc", opacity=0.5)
            .encode(x, y, x2="end:Q", y2="top:Q")
        )
    series = alt.Chart(alt.Data(values=runs)).encode(x, y, tooltip=["run_id:N", "at:N", "value:Q"])
    layers += [
        series.mark_line(color=RUNS, strokeWidth=1),
        series.transform_filter("!datum.cold").mark_circle(color=RUNS, size=26, opacity=1),
        series.transform_filter("datum.cold").mark_point(color=COLD, shape="triangle-up", size=70, filled=True),
    ]
    levels = [{"run": each.begin + 0.5, "end": each.end + 0.5, "value": each.mean} for each in found.levels]
    drawn = alt.Chart(alt.Data(values=levels)).mark_rule(color=LEVEL, strokeWidth=2.5)
    layers.append(drawn.encode(x, y, x2="end:Q"))
    if found.changes:
        layers += _changes(found)
    return alt.layer(*layers).properties(
        width=WIDTH, height=HEIGHT, title=alt.TitleParams(f"{name}: {_said(found)}", anchor="start", fontSize=12)
    )


def _changes(found: History) -> list[Any]:
    """Return the vertical lines of changes and their labels, those that lie close on lines of their own."""
    import altair as alt

    values = []
    line, before = 0, -100.0
    for change in found.changes:
        at = change.index + 0.5
        line = line + 1 if (at - before) / len(found.runs) * 100 < _LINES_APART else 0
        before = at
        pct = change.magnitude_pct
        worse = found.metric.better(change.before, change.after)
        values.append(
            {
                "run": at,
                "label": "" if pct is None else f"{pct:+.1f} %",
                "colour": WORSE if worse else BETTER,
                "line": 12 + 13 * (line % 4),
                "run_id": found.runs[change.index].run_id,
                "p_value": change.p_value,
            }
        )
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X("run:Q"), color=alt.Color("colour:N", scale=None), tooltip=["run_id:N", "label:N", "p_value:Q"]
    )
    labels = base.mark_text(align="left", dx=3, fontSize=11, baseline="middle").encode(
        text="label:N", y=alt.Y("line:Q", scale=None, axis=None)
    )
    return [base.mark_rule(strokeDash=[4, 3], strokeWidth=1.3), labels]


def _said(found: History) -> str:
    said = found.state.value.replace("_", " ")
    if found.changed_pct is not None and found.since is not None:
        said += f" {found.changed_pct:+.1f} %"
    if found.detectable_pct is not None:
        said += f"; would have caught ≥ {found.detectable_pct:.1f} %"
    return said
