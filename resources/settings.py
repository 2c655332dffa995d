"""Settings of a platform: one frozen value, read from `$MLCC_HOME/settings.yaml` over the defaults.

Belongs here: durations, sizes and names an operator may change. Not here: facts (catalog) or constants that ids depend on
(`core.identity`).
"""

import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from mlcc_dagster.core.exceptions import InvalidInput

HOME_VARIABLE = "MLCC_HOME"
DEFAULT_HOME = Path(".mlcc")
VARIABLES = {"MLCC_EXECUTOR": "executor", "MLCC_REGISTRY": "registry", "MLCC_NOTIFY_WEBHOOK": "notify_webhook"}
"""Environment variables that come before the file, and the settings that they name."""

WEB_ADDRESSES = frozenset({"notify_webhook", "ui_url"})


@dataclass(frozen=True)
class Settings:
    """What an operator may change. Durations in seconds.

    `lease_seconds`, `beat_seconds`: life of a claim and the beat that renews it (measured: 90 and 15).
    `slots`: deployments at a time; `slot_wait_seconds`: how long a deploy waits for a free one.
    `round_open_seconds`: an unfinished round older than this is not joined any more.
    `scan_interval_seconds`: from one scan for due configurations to the next; `scan_max_concurrency`: scanned runs at once.
    `notify_webhook`: where failed runs are told; whoever knows it may post there, so it is never shown.
    `ui_url`: where the Dagster page is, for links to a run.
    `athena_workgroup`, `athena_output` (an `s3://` address): where `mlcc sql --engine athena` asks, and where Athena writes the
    result, unless the workgroup says it; `aws_region`: the region, unless the environment or a profile says it.
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
    scan_interval_seconds: float = 3600.0
    scan_max_concurrency: int = 1
    notify_webhook: str | None = field(default=None, repr=False)
    ui_url: str | None = None
    athena_workgroup: str = "primary"
    athena_output: str | None = None
    aws_region: str | None = None


def home_root() -> Path:
    """Return the absolute home folder: `$MLCC_HOME`, else `.mlcc` below the current folder. Touches nothing."""
    return Path(os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().resolve()


def read_settings(path: Path) -> Settings:
    """Read a settings file; absent, it means the defaults.

    Variables of the environment (`VARIABLES`) come before the file. Raises `InvalidInput` with every mistake.
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
            number = not isinstance(value, bool) and isinstance(value, (int, float))
            if not number or not math.isfinite(value) or value <= 0:
                problems.append(f"{name}: must be a number above 0, not {value!r}")
                continue
            whole = type(default)(value)
            if whole <= 0:
                problems.append(f"{name}: must be a whole number of at least 1, not {value!r}")
                continue
            value = whole
        elif name in WEB_ADDRESSES:
            # Not the value: it may be a secret, or hold one.
            refused = web_address_refusal(value)
            if refused is not None:
                problems.append(f"{name}: {refused}")
                continue
        elif value is not None and not isinstance(value, str):
            problems.append(f"{name}: must be a text, not {value!r}")
            continue
        values[name] = value
    if problems:
        raise InvalidInput(str(path), problems)
    for variable, name in VARIABLES.items():
        value = os.environ.get(variable)
        if not value:
            continue
        refused = web_address_refusal(value) if name in WEB_ADDRESSES else None
        if refused is not None:
            raise InvalidInput("the environment", [f"{variable}: {refused}"])
        values[name] = value
    return Settings(**values)  # type: ignore[arg-type]


def web_address_refusal(value: object) -> str | None:
    """Say why a value is no web address to send anything to, without showing it; none where it is one, or absent."""
    if value is None:
        return None
    needed = "must be a web address such as https://example.com/hook"
    if not isinstance(value, str):
        return f"{needed}, not a {type(value).__name__}"
    if any(character.isspace() or not character.isprintable() for character in value):
        return f"{needed}, without spaces or line breaks"
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return f"{needed}; its host or port cannot be read"
    if parts.scheme not in ("http", "https"):
        return f"{needed}, beginning with http:// or https://"
    return None if host else f"{needed}; it names no host"
