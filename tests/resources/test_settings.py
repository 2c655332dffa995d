"""Settings: every mistake at once, a secret in none of them, and every setting documented."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from mlcc_dagster.core.exceptions import InvalidInput
from resources.settings import VARIABLES, Settings, read_settings

ROOT = Path(__file__).parents[2]
SECRET = "T0K3N"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text, "utf-8")
    return path


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    settings = read_settings(tmp_path / "settings.yaml")
    assert settings == Settings()
    assert (settings.scan_interval_seconds, settings.scan_max_concurrency) == (3600.0, 1)
    assert settings.notify_webhook is None


def test_what_a_file_says_is_read_in_its_type(tmp_path: Path) -> None:
    settings = read_settings(
        written(
            tmp_path,
            "scan_interval_seconds: 900\nscan_max_concurrency: 3\n"
            f"notify_webhook: https://example.com/{SECRET}\nui_url: http://127.0.0.1:3000\n",
        )
    )
    assert (settings.scan_interval_seconds, settings.scan_max_concurrency) == (900.0, 3)
    assert settings.notify_webhook == f"https://example.com/{SECRET}"
    assert settings.ui_url == "http://127.0.0.1:3000"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param("scan_interval_seconds: 0", "must be a number above 0, not 0", id="no time at all"),
        pytest.param("scan_interval_seconds: .inf", "must be a number above 0, not inf", id="never"),
        pytest.param("scan_interval_seconds: .nan", "must be a number above 0, not nan", id="no number"),
        pytest.param("scan_max_concurrency: 0.5", "must be a whole number of at least 1, not 0.5", id="half a run"),
        pytest.param("slots: .inf", "must be a number above 0, not inf", id="more slots than there are"),
        pytest.param("scan_max_concurrency: true", "must be a number above 0, not True", id="a yes is no number"),
        pytest.param("executor: 3", "must be a text, not 3", id="a number is no name"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_name(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_settings(written(tmp_path, line))
    assert refused.value.problems == (f"{line.partition(':')[0]}: {said}",)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        pytest.param(f"ftp://example.com/{SECRET}", "beginning with http:// or https://", id="another protocol"),
        pytest.param(f"example.com/{SECRET}", "beginning with http:// or https://", id="no protocol"),
        pytest.param(f"https:///{SECRET}", "it names no host", id="no host"),
        pytest.param(f"https://example.com:port/{SECRET}", "its host or port cannot be read", id="no port"),
        pytest.param(f"https://[::1/{SECRET}", "its host or port cannot be read", id="half a host"),
        pytest.param(f"https://example.com/a {SECRET}", "without spaces or line breaks", id="two addresses"),
        pytest.param(f'"https://example.com/\\n{SECRET}"', "without spaces or line breaks", id="two lines"),
        pytest.param(f"[{SECRET}]", "not a list", id="a list"),
    ],
)
@pytest.mark.parametrize("name", ["notify_webhook", "ui_url"])
def test_what_is_no_web_address_is_refused_without_being_shown(
    tmp_path: Path, name: str, value: str, said: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_settings(written(tmp_path, f"{name}: {value}"))
    (problem,) = refused.value.problems
    assert problem.startswith(f"{name}: must be a web address such as https://example.com/hook")
    assert said in problem
    assert SECRET not in str(refused.value)


def test_the_web_hook_of_the_environment_comes_first_and_is_checked_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "notify_webhook: https://example.com/file")
    monkeypatch.setenv("MLCC_NOTIFY_WEBHOOK", f"https://example.com/{SECRET}")
    assert read_settings(path).notify_webhook == f"https://example.com/{SECRET}"
    monkeypatch.setenv("MLCC_NOTIFY_WEBHOOK", f"ftp://example.com/{SECRET}")
    with pytest.raises(InvalidInput, match="MLCC_NOTIFY_WEBHOOK: must be a web address") as refused:
        read_settings(path)
    assert SECRET not in str(refused.value)


def test_settings_do_not_show_the_secret_in_themselves() -> None:
    assert SECRET not in repr(Settings(notify_webhook=f"https://example.com/{SECRET}"))


def test_every_setting_is_documented_with_its_default() -> None:
    page = (ROOT / "docs" / "commands.md").read_text("utf-8")
    section = page.partition("## Settings")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|", section, re.M))
    defaults = Settings()
    assert set(rows) == {f.name for f in fields(Settings)}
    for name, shown in rows.items():
        default = getattr(defaults, name)
        wanted = "" if default is None else f"{default:g}" if isinstance(default, (int, float)) else str(default)
        assert shown.strip(" `") == wanted, name
