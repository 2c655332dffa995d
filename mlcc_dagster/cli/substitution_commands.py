"""`mlcc substitute`: what is proven instead of what was asked for."""

from pathlib import Path
from typing import Annotated

import typer

from mlcc_dagster.cli.help_pages import examples


def add_to(app: typer.Typer) -> None:
    """Add the command on substitutes to the command line."""
    app.command(
        epilog=examples(
            "mlcc substitute --deployment-config transformers-sglang --model Qwen/Qwen3-4B --instance ml.g5.xlarge",
            "mlcc substitute --deployment-config http-flask --model-family qwen3 --instance-family g6 --top 1 --json",
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
    results: Annotated[
        Path | None, typer.Option(help="Ask this .parquet, .csv or .json file of rows instead of the store.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(metavar="DATE", help="As it was at the end of that day, or at that time.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Offer what is proven instead of a request.

    The nearest vectors of the same model family by differing dimensions, then newest proof. That nothing
    of the family is proven is an answer too, with the distance of the nearest proven vector of another.
    """
    from catalog.loader import load_catalog
    from mlcc_dagster.cli import console
    from mlcc_dagster.cli.surveys import take_survey
    from mlcc_dagster.core.configuration import DIMENSIONS, Vector
    from mlcc_dagster.core.configuration import instance_family as family_of_instance
    from mlcc_dagster.core.exceptions import InvalidInput
    from mlcc_dagster.core.substitution import SubstitutionIndex

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
    survey = take_survey(None, results=results, as_of=as_of)
    answer = SubstitutionIndex(survey.whole_rows).answer(requested, top=top)
    if json:
        console.print_json(answer.to_json())
    elif answer.message is not None:
        console.say(answer.message)
    else:
        console.print_table(
            f"proven instead of {requested}",
            ["distance", *DIMENSIONS, "what differs"],
            ([e.distance, *e.proven.values(), "; ".join(e.explanation) or "nothing"] for e in answer.substitutions),
            right=["distance"],
        )
