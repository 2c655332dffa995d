"""Predictors: scikit-learn models behind FastAPI on uvicorn or Flask on gunicorn.

Belongs here: what is particular to these two kinds: models, commands, what a right answer is. Not here: performing stages
(`executor.py`), the servers' own code (templates).
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import StageFailed
from resources.executor import StageRequest
from resources.local import images
from resources.local.serving import MEMORY_LIMIT, PORT, MadeModel, Parameter, WorkloadProfile, cpus
from resources.local.subprocesses import run_tagged

if TYPE_CHECKING:
    import httpx

    from resources.load_client import Exchange

ALGORITHMS: Mapping[str, str] = MappingProxyType(
    {
        "sklearn/random-forest-digits": "random-forest",
        "sklearn/logistic-regression-digits": "logistic-regression",
    }
)
"""The models that can be trained here, and the algorithm of each."""

LEAST_ACCURACY = 0.85
"""What a served model must reach on its held-out sample: both algorithms reach 0.93, guessing 0.1."""

PARAMETERS = (PORT, MEMORY_LIMIT)

_MODEL_FILES = ("held_out.json", "metadata.json", "model.joblib")
_BATCH_ROWS = 30


@dataclass(frozen=True)
class Predictor:
    """A predictor kind. `server` is the distribution that answers HTTP; `arguments` start it from the app folder on the
    descriptor `{fd}`, `address_arguments` on `$PORT`, `container_arguments` on port 8080 of a container."""

    name: str
    server: str
    app_files: tuple[str, ...]
    requirements: tuple[str, ...]
    arguments: tuple[str, ...]
    address_arguments: str
    container_arguments: tuple[str, ...]
    parameters: tuple[Parameter, ...] = PARAMETERS

    @property
    def templates(self) -> tuple[str, ...]:
        """What all predictors share, then what is this server's."""
        return ("predictor", self.name)

    def refusal(self, configuration: Configuration) -> str | None:
        """See `ServingKind.refusal`: whatever is not one of the trainable models is a model of another architecture."""
        if configuration.model_name in ALGORITHMS:
            return None
        model = configuration.model_name or "no model"
        return (
            f"the architecture of {model} is not supported by {self.name}, which serves scikit-learn models and no "
            f"language models; use one of {', '.join(ALGORITHMS)}"
        )

    def problems(self, configuration: Configuration) -> list[str]:
        """See `ServingKind.problems`."""
        if configuration.quantization == "none":
            return []
        return [f"{self.name} has no quantization {configuration.quantization}"]

    def context(self, configuration: Configuration) -> Mapping[str, Any]:
        """See `ServingKind.context`."""
        return {
            "algorithm": ALGORITHMS[configuration.model_name or ""],
            "workers": cpus(configuration),
            "app_files": self.app_files,
            "process_command": self.address_arguments,
            "container_command": ["python", *self.container_arguments],
        }

    def make_model(self, request: StageRequest, project: Path, cache: Path) -> MadeModel:
        """Train, or take what the same program and the same libraries made before.

        Raises `StageFailed` where training fails; its output is in the log.
        """
        key = _training_key(project / "train.py")
        kept = cache / "models" / key
        if _is_whole(kept):
            request.say(f"model reused from cache ({key[:12]}: same training program and library versions)")
            return MadeModel(kept, from_cache=True)
        out = request.workspace / "model"
        shutil.rmtree(out, ignore_errors=True)
        code = run_tagged(
            request,
            [sys.executable, "train.py", "--out", str(out)],
            directory=project,
            # one thread and one hash seed: sums in another order are other bytes
            environment={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"},
        )
        if code != 0:
            raise StageFailed(f"training ended with exit code {code}; see what it said above")
        _keep(out, kept)
        return MadeModel(out, from_cache=False)

    def command(self, *, model: Path, configuration: Configuration) -> tuple[str, ...]:
        """See `ServingKind.command`."""
        return (sys.executable, *self.arguments)

    def environment(self, *, model: Path, configuration: Configuration) -> Mapping[str, str]:
        """See `ServingKind.environment`: one computing thread a worker, so that workers are what uses the CPUs."""
        return {
            "MODEL_DIR": str(model),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            # each arena reserves 64 MB of address space, which a memory limit counts
            "MALLOC_ARENA_MAX": "2",
        }

    def try_out(self, client: "httpx.Client", *, model: Path, say: Callable[[str], None]) -> Mapping[str, Any]:
        """Send the held-out sample and one malformed request.

        Raises `StageFailed` where a prediction is not what the trained model predicted, the accuracy is too low, or bad
        input is not refused with 400.
        """
        known = json.loads((model / "held_out.json").read_text("utf-8"))
        predictions: list[Any] = []
        for start in range(0, len(known["instances"]), _BATCH_ROWS):
            answer = client.post("/invocations", json={"instances": known["instances"][start : start + _BATCH_ROWS]})
            if answer.status_code != 200:
                raise StageFailed(f"/invocations answered {answer.status_code} to a right request: {answer.text[:300]}")
            predictions += answer.json()["predictions"]
        differing = sum(a != b for a, b in zip(predictions, known["predictions"], strict=False))
        if len(predictions) != len(known["predictions"]) or differing:
            raise StageFailed(
                f"the server predicts otherwise than the model it was given ({differing} of {len(predictions)} rows "
                "differ); compare the library versions of build and server"
            )
        labels = known["labels"]
        accuracy = sum(a == b for a, b in zip(predictions, labels, strict=True)) / len(labels)
        say(f"{len(labels)} held-out rows, accuracy {accuracy:.3f}")
        if accuracy < LEAST_ACCURACY:
            raise StageFailed(f"accuracy {accuracy:.3f} on held-out rows is below {LEAST_ACCURACY}; look at training")
        refused = client.post("/invocations", json={"instances": [[1, 2, 3]]})
        if refused.status_code != 400:
            raise StageFailed(f"/invocations answered {refused.status_code} to a malformed request instead of 400")
        say(f"malformed request refused with 400: {refused.json()['error']}")
        return {"accuracy": accuracy, "rows": len(labels)}

    def exchange(self, *, model: Path, workload: WorkloadProfile) -> "Exchange":
        """One row of the held-out sample per request, in turn."""
        rows = json.loads((model / "held_out.json").read_text("utf-8"))["instances"]
        from resources.load_client import JsonExchange

        return JsonExchange("/invocations", tuple({"instances": [row]} for row in rows))

    def engine(self) -> str:
        """See `ServingKind.engine`."""
        return " / ".join(f"{name} {'.'.join(_version(name).split('.')[:2])}" for name in (self.server, "scikit-learn"))


FASTAPI = Predictor(
    name="http-fastapi",
    server="uvicorn",
    app_files=("config.json", "memory_limit.py", "predictor.py", "requirements.txt", "serve.py"),
    requirements=("fastapi", "uvicorn", "scikit-learn", "joblib", "numpy"),
    arguments=("serve.py", "--fd", "{fd}"),
    address_arguments='serve.py --port "$PORT"',
    container_arguments=("serve.py", "--host", "0.0.0.0", "--port", "8080"),
)

FLASK = Predictor(
    name="http-flask",
    server="gunicorn",
    app_files=("config.json", "gunicorn.conf.py", "memory_limit.py", "predictor.py", "requirements.txt", "serve.py"),
    requirements=("flask", "gunicorn", "scikit-learn", "joblib", "numpy"),
    arguments=("-m", "gunicorn", "--bind", "fd://{fd}", "serve:app"),
    address_arguments='-m gunicorn --bind "127.0.0.1:$PORT" serve:app',
    container_arguments=("-m", "gunicorn", "--bind", "0.0.0.0:8080", "serve:app"),
)


def _version(name: str) -> str:
    return metadata.version(name)


def _training_key(program: Path) -> str:
    """Return what a trained model depends on, as one digest: the program (seed, data and parameters are in it) and the
    versions of what it computes with."""
    versions = [f"{name}={_version(name)}" for name in ("scikit-learn", "numpy", "scipy", "joblib")]
    text = "\n".join([sys.version, *versions, images.digest_of(program)])
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _is_whole(folder: Path) -> bool:
    """Whether a cached model has every file with the digest it was kept with."""
    try:
        digests = json.loads((folder / "digests.json").read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    return all(
        (folder / name).is_file() and images.digest_of(folder / name) == digests.get(name) for name in _MODEL_FILES
    )


def _keep(made: Path, kept: Path) -> None:
    """Put a trained model into the cache, whole or not at all; one that another run has kept meanwhile stays."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    new = kept.with_name(f".{kept.name}.{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(made, new)
    digests = {name: images.digest_of(new / name) for name in _MODEL_FILES}
    (new / "digests.json").write_text(json.dumps(digests, sort_keys=True), "utf-8")
    if kept.exists() and not _is_whole(kept):
        shutil.rmtree(kept)
    try:
        new.rename(kept)
    except OSError:
        shutil.rmtree(new)
