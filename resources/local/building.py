"""The image of a project: its model made, its app added, both in an OCI layout with a reproducible digest.

Belongs here: which files are which layer, and what the image says of itself. Not here: the image format (`images.py`), how a
model is made (kinds).
"""

import platform
import shutil
from pathlib import Path
from typing import Any

from resources.executor import StageRequest
from resources.local import images
from resources.local.images import Layer
from resources.local.projects import project_name
from resources.local.serving import APP_FOLDER, BASE_IMAGE, EXECUTION, MODEL_FOLDER, ServingKind

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def build_image(request: StageRequest, kind: ServingKind, project: Path, cache: Path) -> dict[str, Any]:
    """Make the model and write the image layout into the workspace; return the outputs of the build stage."""
    made = kind.make_model(request, project, cache)
    model = {
        f"{MODEL_FOLDER}/{path.relative_to(made.folder)}": path
        for path in sorted(made.folder.rglob("*"))
        if path.is_file() and path.name != "digests.json"
    }
    app = {f"{APP_FOLDER}/{name}": project / name for name in kind.app_files}
    layout = request.workspace / "image"
    # a build that was interrupted in this workspace left a part
    shutil.rmtree(layout, ignore_errors=True)
    name = project_name(request.configuration)
    manifest, layers = images.write_image(
        layout,
        layers=[Layer("model", model), Layer("app", app)],
        config={
            "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": platform.system().lower(),
            "config": {
                "WorkingDir": f"/{APP_FOLDER}",
                "Env": [f"MODEL_DIR=/{MODEL_FOLDER}"],
                "Labels": {"mlcc.execution": EXECUTION, "mlcc.project": name},
            },
        },
        annotations={
            "org.opencontainers.image.title": name,
            "mlcc.execution": EXECUTION,
            "mlcc.python": platform.python_version(),
            "mlcc.deployment-config": request.configuration.deployment_config,
            **made.annotations,
        },
    )
    for layer in layers:
        request.say(f"layer {layer.annotations['org.opencontainers.image.title']}: {layer.digest} ({layer.size} bytes)")
    request.say(f"image {manifest.digest}")
    return {
        "image_layout": str(layout),
        "image_digest": manifest.digest,
        "manifest_size": manifest.size,
        "model_digest": layers[0].digest,
        "app_digest": layers[1].digest,
        "model_from_cache": made.from_cache,
        "base_image": BASE_IMAGE,
        "python": platform.python_version(),
        **made.outputs,
    }
