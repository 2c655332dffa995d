"""Settings of a platform: one frozen value, read from `$MLCC_HOME/settings.yaml` over the defaults.

Belongs here: durations, sizes and names an operator may change. Not here: facts (catalog) or constants that ids depend on
(`core.identity`).
"""

import os
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from mlcc_dagster.core.exceptions import InvalidInput

HOME_VARIABLE = "MLCC_HOME"
DEFAULT_HOME = Path(".mlcc")


@dataclass(frozen=True)
class Settings:
    """What an operator may change. Durations in seconds.

    `lease_seconds`, `beat_seconds`: life of a claim and the beat that renews it (measured: 90 and 15).
    `slots`: deployments at a time; `slot_wait_seconds`: how long a deploy waits for a free one.
    `round_open_seconds`: an unfinished round older than this is not joined any more.
    """

    executor: str = "local"
    lease_seconds: float = 90.0
    beat_seconds: float = 15.0
    slots: int = 1
    slot_wait_seconds: float = 1800.0
    round_open_seconds: float = 86_400.0
    registry: str | None = None
    sql_seconds: float = 60.0
    sql_memory_mb: int = 2048


def home_root() -> Path:
    """Return the absolute home folder: `$MLCC_HOME`, else `.mlcc` below the current folder. Touches nothing."""
    return Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().resolve()


def read_settings(path: Path) -> Settings:
    """Read a settings file; absent, it means the defaults.

    `MLCC_EXECUTOR` and `MLCC_REGISTRY` in the environment come before the file. Raises `InvalidInput` with every mistake.
    """
    document: object = {}
    if path.exists():
        try:
            document = yaml.safe_load(path.read_text("utf-8")) or {}
        except OSError as error:
            raise InvalidInput(
                str(path), [f"cannot be read ({error.strerror}); it must be a file of settings"]
            ) from error
        except UnicodeDecodeError as error:
            raise InvalidInput(str(path), [f"is not UTF-8 text (byte {error.start}); save it as UTF-8"]) from error
        except yaml.YAMLError as error:
            raise InvalidInput(str(path), [f"not readable as YAML ({str(error).splitlines()[0]})"]) from error
    if not isinstance(document, dict):
        raise InvalidInput(str(path), ["must be a mapping of setting names to values"])
    known = {f.name: f for f in fields(Settings)}
    defaults = Settings()
    problems: list[str] = []
    values: dict[str, object] = {}
    for name, value in document.items():
        if name not in known:
            problems.append(f"{name}: unknown setting; known are {', '.join(known)}")
            continue
        default = getattr(defaults, name)
        if isinstance(default, (int, float)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
                problems.append(f"{name}: must be a number above 0, not {value!r}")
                continue
            value = type(default)(value)
        elif value is not None and not isinstance(value, str):
            problems.append(f"{name}: must be a text, not {value!r}")
            continue
        values[name] = value
    if problems:
        raise InvalidInput(str(path), problems)
    for variable, name in (("MLCC_EXECUTOR", "executor"), ("MLCC_REGISTRY", "registry")):
        if os.environ.get(variable):
            values[name] = os.environ[variable]
    return Settings(**values)  # type: ignore[arg-type]
