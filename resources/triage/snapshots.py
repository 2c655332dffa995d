"""Snapshots of where a matrix ran: this host, and each environment of its cells.

Belongs here: reading what may explain a difference between two runs, without starting a process. Not here: writing the files
(`run_folders.py`). An environment that the runner does not enter gets a placeholder that says so: the host's values under
its name would be a lie.
"""

import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.triage.registries import Environment
from mlcc_dagster.core.triage.secrets import WITHHELD, is_secret

SCHEMA_VERSION = 1

PACKAGES = (
    "mlcc-dagster", "vllm", "xllamacpp", "llama-cpp-python", "onnxruntime", "onnxruntime-gpu", "torch", "transformers",
    "numpy", "scipy", "scikit-learn", "nvidia-nccl-cu12", "nvidia-cublas-cu12", "uvicorn", "gunicorn", "httpx",
)  # fmt: skip
"""Distributions whose versions are noted where they are installed."""

PREFIXES = (
    "CUDA_", "NVIDIA_", "NCCL_", "CUBLAS_", "CUDNN_", "VLLM_", "LLAMA_", "GGML_", "ORT_", "OMP_", "GOMP_", "KMP_", "MKL_",
    "OPENBLAS_", "TORCH_", "PYTORCH_", "TF_", "XLA_", "HF_", "TRANSFORMERS_", "MALLOC_", "LD_PRELOAD", "PYTHON", "MLCC_",
)  # fmt: skip
"""Environment variables that engines and libraries read; no others are noted."""


def host_snapshot() -> dict[str, Any]:
    """Return what is known of this host and this Python, as JSON values; secrets among the variables are withheld."""
    memory = psutil.virtual_memory()
    return {
        "schema_version": SCHEMA_VERSION,
        "taken_at": utc_text(datetime.now(UTC)),
        "host": platform.node(),
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_mb": memory.total >> 20,
        "memory_free_mb": memory.available >> 20,
        "load_1_minute": os.getloadavg()[0],
        "gpu_driver": _text(Path("/proc/driver/nvidia/version")),
        "python": platform.python_version(),
        "python_executable": sys.executable,
        "packages": _packages(),
        "variables": _variables(os.environ),
    }


def environment_snapshot(environment: Environment) -> dict[str, Any]:
    """Return what is known of the environment of a cell, as JSON values."""
    known = {
        "name": environment.name,
        "source": environment.source,
        "docker": environment.docker,
        "venv": environment.venv,
    }
    if environment.entered:
        return known | {"entered": True, "note": None} | host_snapshot()
    what = "image" if environment.docker is not None else "virtual environment"
    note = f"the runner does not enter this {what}: nothing is known here of what is in it, and the host's values are not its"
    return known | {"entered": False, "note": note, "schema_version": SCHEMA_VERSION}


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: WITHHELD if is_secret(name, value) else value
        for name, value in sorted(environment.items())
        if name.startswith(PREFIXES)
    }


def _processor() -> str | None:
    text = _text(Path("/proc/cpuinfo"))
    if text is None:
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, None)


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return None
