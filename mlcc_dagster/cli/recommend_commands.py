"""`mlcc recommend`: settings that measured better than a configuration's present ones."""

from typing import TYPE_CHECKING, Annotated

import typer

from mlcc_dagster.cli.compare_commands import Executor, Json, number_text
from mlcc_dagster.cli.help_pages import examples

if TYPE_CHECKING:
    from mlcc_dagster.core.recommendation import Advice


def add_to(app: typer.Typer) -> None:
    """Add `recommend` to the command line."""
    app.command(
        epilog=examples(
            "mlcc recommend --model HuggingFaceTB/SmolLM2-135M-Instruct --instance local.1cpu --metric latency",
            "mlcc recommend --config rt-qwen3-4b --json",
        )
    )(recommend)


def recommend(
    model: Annotated[str | None, typer.Option(help="The model's name.")] = None,
    instance: Annotated[str | None, typer.Option(help="The instance type.")] = None,
    config: Annotated[
        str | None, typer.Option(metavar="ID", help="The present configuration, in place of --model and --instance.")
    ] = None,
    metric: Annotated[str, typer.Option(help="What is to get better: throughput, ttft, itl, latency.")] = "throughput",
    strategy: Annotated[
        str, typer.Option(help="How settings are compared: matched, or marginal as existing installations do.")
    ] = "matched",
    executor: Executor = None,
    json: Json = False,
) -> None:
    """Say which settings of a configuration measured better.

    Settings are quantization, tensor parallelism, context length and cache type.

    Only like is compared with like: the same load, model, server, instance and target, all other settings equal. Where
    the model was not measured so, other models of its family on the instance type tell, then the family on the instance family;
    that is said. Of several better values the best supported one leads, the others are told beside it. Exit 0 whatever is
    found.
    """
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.opening import open_platform, warn_of_skipped
    from mlcc_dagster.cli.targets import named_config_id
    from mlcc_dagster.core.compared_metrics import metric_named
    from mlcc_dagster.core.exceptions import UsageError
    from mlcc_dagster.core.recommendation_rows import Subject
    from mlcc_dagster.core.recommendation_strategies import strategy_named
    from resources.recommendations import Recommender, subject_of

    wanted = metric_named(metric)
    strategy_named(strategy)
    if (config is None) == (model is None and instance is None) or (config is None and not (model and instance)):
        raise UsageError("name the present configuration with --config, or both --model and --instance")
    platform = open_platform(executor, to_read=True)
    recommender = Recommender.take(platform)
    if config is not None:
        known = platform.configurations()
        key = named_config_id(platform.catalog, known, config, measured=recommender.config_ids)
        subject = Subject.of(known[key]) if key in known else recommender.subject_measured(key)
    else:
        assert model is not None and instance is not None, "asked for above"
        subject = subject_of(platform, recommender.samples, model, instance)
    warn_of_skipped(platform)
    advice = recommender.advise(subject, wanted, strategy=strategy)
    if json:
        console.print_json(advice.to_json())
    else:
        show(advice)


def show(advice: "Advice") -> None:
    """Print a line per recommendation, then what stays as it is and what nobody knows."""
    from mlcc_dagster.cli import console
    from mlcc_dagster.core.recommendation import LEVEL, Basis

    below = [f"{name} stays: {advice.subject.settings[name]} is the best measured" for name in advice.no_change]
    below += [f"{name}: {why}" for name, why in advice.not_compared.items()]
    model, instance = advice.subject.model_name, advice.subject.instance_type
    told = {
        Basis.FAMILY: f"measured on other models of the family {advice.subject.model_family} on {instance}",
        Basis.INSTANCE_FAMILY: f"measured on models of the family {advice.subject.model_family} on instances of the "
        f"family {advice.subject.instance_family}",
    }
    below += [
        f"{each.dimension} was not compared for {model} on {instance}; {told[each.basis]}"
        for each in advice.recommendations
        if each.basis in told
    ]
    below += [
        f"{each.dimension}, instead of {each.recommended_value}: {other.recommended_value} "
        f"{other.improvement_pct:+.1f} % ({other.confidence.value} confidence, {console.counted(other.num_runs, 'run')})"
        for each in advice.recommendations
        for other in each.alternatives
    ]
    below += [
        f"set {each.config_key}={each.recommended_value}"
        for each in advice.recommendations
        if each.config_key is not None
    ]
    console.print_table(
        f"{console.counted(len(advice.recommendations), 'recommendation')} for {advice.metric.column} of {model} on {instance}",
        [
            "dimension",
            "now",
            "better",
            "improvement",
            f"{LEVEL:.0%} interval",
            "confidence",
            "basis",
            "runs",
            "from",
            "to",
        ],
        (
            [
                each.dimension,
                each.current_value,
                each.recommended_value,
                f"{each.improvement_pct:+.1f} %",
                None if each.interval_pct is None else "{:+.1f} to {:+.1f} %".format(*each.interval_pct),
                each.confidence.value,
                each.basis.value.replace("_", " "),
                each.num_runs,
                number_text(each.baseline_metric_value),
                number_text(each.recommended_metric_value),
            ]
            for each in advice.recommendations
        ),
        right=["improvement", "runs", "from", "to"],
        below=below,
    )
