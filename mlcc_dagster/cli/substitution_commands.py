"""`mlcc substitute`: what is proven instead of what was asked for.

Belongs here: the request, and showing the answer. Not here: ranks (`core.substitute_ranks`), the experiment that would prove
the request (`experiments.py`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from mlcc_dagster.cli.experiments import Experiment
    from mlcc_dagster.core.predicted_substitution import PredictedAnswer
    from mlcc_dagster.core.substitution import Answer


def add_to(app: typer.Typer) -> None:
    """Add the command on substitutes to the command line."""
    app.command(
        epilog=examples(
            "mlcc substitute --deployment-config transformers-sglang --model Qwen/Qwen3-4B --instance ml.g5.xlarge",
            "mlcc substitute --deployment-config http-flask --model-family qwen3 --instance-family g6 --top 1 --json",
            "mlcc substitute --deployment-config http-flask --model-family random-forest --instance-family local "
            "--rank predicted",
        )
    )(substitute)


def substitute(
    deployment_config: Annotated[str | None, typer.Option(help="Deployment configuration that is wanted.")] = None,
    model_family: Annotated[str | None, typer.Option(help="Model family that is wanted.")] = None,
    instance_family: Annotated[str | None, typer.Option(help="Instance family that is wanted.")] = None,
    quantization: Annotated[str, typer.Option(help="Quantization that is wanted.")] = "none",
    tp_degree: Annotated[
        str | None, typer.Option(help="Tensor parallelism that is wanted (default: the GPUs of --instance, else 1).")
    ] = None,
    deployment_target: Annotated[str, typer.Option(help="Target that is wanted.")] = "realtime-inference",
    model: Annotated[str | None, typer.Option(help="Model name, in place of --model-family.")] = None,
    instance: Annotated[str | None, typer.Option(help="Instance type, in place of --instance-family.")] = None,
    top: Annotated[int, typer.Option(help="How many to offer.")] = 3,
    rank: Annotated[
        str, typer.Option(help="What comes first: hamming (fewest differing dimensions), predicted (lowest swap cost).")
    ] = "hamming",
    results: Annotated[
        Path | None, typer.Option(help="Ask this .parquet, .csv or .json file of rows instead of the store.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(metavar="DATE", help="As it was at the end of that day, or at that time.")
    ] = None,
    executor: Annotated[
        str | None, typer.Option(help="Who would prove the request; replay reads its own home.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Offer what is proven instead of a request.

    The nearest vectors of the same model family by differing dimensions, then newest proof. That nothing
    of the family is proven is an answer too, with the distance of the nearest proven vector of another.
    With --rank predicted the order is by what a swap costs, as learned from measurements, and shown beside it is
    what the request itself would measure, and the cheapest experiment that would prove it.
    """
    from catalog.loader import load_catalog
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.experiments import cheapest_experiment
    from mlcc_dagster.cli.surveys import take_survey
    from mlcc_dagster.core.configuration import Vector
    from mlcc_dagster.core.configuration import instance_family as family_of_instance
    from mlcc_dagster.core.exceptions import InvalidInput
    from mlcc_dagster.core.substitute_ranks import rank_named
    from mlcc_dagster.core.substitution import Answer

    catalog = load_catalog()
    problems = []
    if deployment_config is None:
        problems.append("--deployment-config is missing; `mlcc catalog list` shows configurations")
    if (model is None) == (model_family is None):
        problems.append("name the model with one of --model and --model-family")
    if (instance is None) == (instance_family is None):
        problems.append("name the instance with one of --instance and --instance-family")
    if top < 1:
        problems.append(f"--top must be 1 or more, not {top}")
    if problems:
        raise InvalidInput("the request", problems)
    answer_by = rank_named(rank)
    known = catalog.instances.get(instance or "")
    requested = Vector.of(
        {
            "deployment_config": deployment_config,
            "model_family": model_family if model is None else catalog.family_of(model),
            "instance_family": instance_family if instance is None else family_of_instance(instance),
            "quantization": quantization,
            "tp_degree": tp_degree or max(known.gpu_count if known else 1, 1),
            "deployment_target": deployment_target,
        }
    )
    survey = take_survey(executor, results=results, as_of=as_of)
    prices = {name: each.usd_per_hour for name, each in catalog.instances.items()}
    answer = answer_by(survey.whole_rows, requested, top=top, usd_per_hour=prices)
    if isinstance(answer, Answer):
        if json:
            console.print_json(answer.to_json())
        else:
            show_substitutes(answer)
        return
    experiment = cheapest_experiment(requested, survey)
    if json:
        console.print_json(answer.to_json() | {"experiment": experiment.to_json()})
    else:
        show_prediction(answer, experiment)


def show_substitutes(answer: "Answer", swap_costs: Sequence[float | None] | None = None) -> None:
    """Print the substitutions as a table, with their swap costs where there are any; without any the reason."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.configuration import DIMENSIONS

    if answer.message is not None:
        console.say(answer.message)
        return
    costs = None if swap_costs is None else [number_text(cost) for cost in swap_costs]
    rows = []
    for place, each in enumerate(answer.substitutions):
        cost = [] if costs is None else [costs[place]]
        rows.append([each.distance, *cost, *each.proven.values(), "; ".join(each.explanation) or "nothing"])
    console.print_table(
        f"proven instead of {answer.requested}",
        ["distance", *([] if costs is None else ["swap cost"]), *DIMENSIONS, "what differs"],
        rows,
        right=["distance", "swap cost"],
    )


def show_prediction(answer: "PredictedAnswer", experiment: "Experiment") -> None:
    """Print the substitutions, what the request would measure beside each, what a swap costs, and the experiment."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.measured_points import METRICS
    from mlcc_dagster.core.predicted_substitution import mean_cost
    from mlcc_dagster.core.swap_costs import LEVEL

    show_substitutes(answer.answer, [each.swap_cost for each in answer.predicted])
    rows = []
    for place, each in enumerate(answer.predicted, start=1):
        for metric, comparison in each.comparisons.items():
            shown = comparison.to_json()
            measured, predicted, difference = (
                interval_text(shown, name) for name in ("measured", "predicted", "difference")
            )
            at = None if each.conditions is None else str(each.conditions)
            rows.append([place, METRICS[metric], at, measured, predicted, difference, shown["why_not"]])
    if rows:
        console.say()
        console.print_table(
            f"the request against each substitute, as measured by executor {answer.executor or 'none'} "
            f"({LEVEL:.0%} intervals)",
            ["substitute", "metric", "load", "measured", "request, predicted", "difference", "why not"],
            rows,
            right=["substitute"],
        )
    if answer.swap_costs:
        console.say()
        console.print_table(
            "what another value costs, learned from measurements",
            ["dimension", "swap cost", *(f"{METRICS[m]}, times" for m in METRICS), "values", "pairs", "learned"],
            (
                [
                    name,
                    number_text(mean_cost(costs.values())),
                    *(number_text(costs[m].typical_factor if m in costs else None) for m in METRICS),
                    max(cost.values for cost in costs.values()),
                    max(cost.pairs for cost in costs.values()),
                    "yes" if any(cost.learned for cost in costs.values()) else "no, assumed",
                ]
                for name, costs in answer.swap_costs.items()
            ),
            right=["swap cost", *(f"{METRICS[m]}, times" for m in METRICS), "values", "pairs"],
        )
    console.say()
    for note in answer.notes:
        console.say(f"note: {note}")
    console.say(str(experiment))


def interval_text(comparison: Mapping[str, Any], name: str) -> str | None:
    """Return a number of a comparison with its interval where it has one; none where it is absent."""
    value, low, high = (comparison.get(part) for part in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return None
    text = number_text(value)
    return text if low is None else f"{text} ({number_text(low)} to {number_text(high)})"


def number_text(value: float | None) -> str | None:
    """Return a number with the digits that a prediction is worth, none where it is absent."""
    return None if value is None else f"{value:.4g}"
