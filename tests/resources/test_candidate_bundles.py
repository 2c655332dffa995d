"""What a bundle is, and bundles of real MLflow runs in a real local tracking store."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.exceptions import InvalidInput, MlccError, UsageError
from resources import optional_packages
from resources.candidate_bundles import bundle_digest, fetch_run, read_bundle
from resources.home import Home
from resources.optional_packages import NotInstalled


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return folder


FILES = {"model.bin": b"weights", "config/settings.json": b"{}"}


def test_the_digest_is_the_contents_whatever_the_place_the_times_the_order_and_the_permissions(tmp_path: Path):
    here = written(tmp_path / "here", FILES)
    there = written(tmp_path / "there" / "deeper", dict(reversed(FILES.items())))
    os.utime(there / "model.bin", (1, 1))
    (there / "model.bin").chmod(0o700)
    (there / "empty").mkdir()
    assert bundle_digest(here) == bundle_digest(there)
    found = read_bundle(here)
    assert [(file.path, file.size) for file in found.files] == [("config/settings.json", 2), ("model.bin", 7)]
    assert found.size == 9


@pytest.mark.parametrize(
    "files",
    [
        FILES | {"model.bin": b"Weights"},
        FILES | {"more": b""},
        {"model.bin": b"weights"},
        {"model.bin": b"{}", "config/settings.json": b"weights"},
        {"model.bi": b"weights", "config/settings.json": b"{}"},
        {"model.bin": b"weights", "settings.json": b"{}"},
    ],
    ids=["a byte", "an empty file more", "a file less", "contents swapped", "a name", "a place"],
)
def test_any_other_content_has_another_digest(tmp_path: Path, files: dict[str, bytes]):
    assert bundle_digest(written(tmp_path / "a", FILES)) != bundle_digest(written(tmp_path / "b", files))


NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6)


@given(*[st.dictionaries(NAMES, st.binary(max_size=6), min_size=1, max_size=4)] * 2)
def test_two_bundles_have_one_digest_when_and_only_when_they_hold_the_same(tmp_path_factory: Any, one: Any, other: Any):
    root = tmp_path_factory.mktemp("bundles")
    digests = [bundle_digest(written(root / str(number), files)) for number, files in enumerate((one, other))]
    assert (digests[0] == digests[1]) == (one == other)


def test_one_file_stands_for_a_folder_that_holds_it_alone(tmp_path: Path):
    folder = written(tmp_path / "model", {"model.gguf": b"weights"})
    assert bundle_digest(folder / "model.gguf") == bundle_digest(folder)


def link(folder: Path) -> None:
    (folder / "passwords").symlink_to("/etc/passwd")


def link_to_folder(folder: Path) -> None:
    (folder / "etc").symlink_to("/etc")


def dangling(folder: Path) -> None:
    (folder / "nothing").symlink_to(folder / "not there")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def backslash(folder: Path) -> None:
    (folder / "..\\..\\model.bin").write_bytes(b"")


def newline(folder: Path) -> None:
    (folder / "a\nb").write_bytes(b"")


def terminal(folder: Path) -> None:
    (folder / "\x1b[31mred").write_bytes(b"")


def not_text(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (link, "passwords: is a link"),
        (link_to_folder, "etc: is a link"),
        (dangling, "nothing: is a link"),
        (pipe, "pipe: is no ordinary file"),
        (backslash, "means other things elsewhere"),
        (newline, "means other things elsewhere"),
        (terminal, "means other things elsewhere"),
        (not_text, "is no UTF-8 text"),
    ],
)
def test_what_could_lead_out_of_a_bundle_or_differ_elsewhere_is_refused(tmp_path: Path, spoil: Any, why: str):
    folder = written(tmp_path / "model", FILES)
    spoil(folder)
    with pytest.raises(InvalidInput, match=why):
        read_bundle(folder)


def test_every_mistake_of_a_bundle_is_named_up_to_ten(tmp_path: Path):
    folder = written(tmp_path / "model", FILES)
    for number in range(12):
        (folder / f"link{number}").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="and 2 more") as refused:
        read_bundle(folder)
    assert len(refused.value.problems) == 11


@pytest.mark.parametrize("what", ["not there", "empty", "pipe"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, what: str):
    place = tmp_path / what
    if what == "empty":
        (place / "folder").mkdir(parents=True)
    elif what == "pipe":
        os.mkfifo(place)
    with pytest.raises(UsageError, match=r"is not there|holds no file|is no folder and no file"):
        read_bundle(place)


# ---- MLflow


@dataclass
class Tracking:
    """A local tracking store with runs that logged a model."""

    uri: str
    client: Any
    experiment: str
    root: Path

    def run(self, files: dict[str, bytes], status: str = "FINISHED") -> str:
        run_id = self.client.create_run(self.experiment).info.run_id
        source = written(self.root / f"source-{run_id}", files)
        self.client.log_artifacts(run_id, str(source))
        if status != "RUNNING":
            self.client.set_terminated(run_id, status)
        return run_id


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    root = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{root}/tracking.db"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("tutor", artifact_location=(root / "artifacts").as_uri())
    return Tracking(uri, client, experiment, root)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Home(tmp_path / "home")


LOGGED = {"model/model.bin": b"weights", "model/config.json": b"{}", "plots/loss.txt": b"1 2 3"}


@pytest.mark.slow
def test_the_bundle_of_a_run_is_what_it_logged_below_the_artifact_and_lies_under_its_digest(
    tracking: Tracking, place: Home, tmp_path: Path
):
    run_id = tracking.run(LOGGED)
    fetched = fetch_run(place, run_id, artifact="model", tracking_uri=tracking.uri)
    same = written(tmp_path / "same", {"model.bin": b"weights", "config.json": b"{}"})
    assert fetched.bundle.digest == bundle_digest(same)
    assert fetched.folder == place.root / "candidates" / fetched.bundle.digest
    assert bundle_digest(fetched.folder) == fetched.bundle.digest
    assert (fetched.run_id, fetched.experiment) == (run_id, "tutor")
    assert fetch_run(place, run_id, artifact="model", tracking_uri=tracking.uri) == fetched
    assert [path.name for path in (place.root / "candidates").iterdir()] == [fetched.bundle.digest]


@pytest.mark.slow
def test_all_artifacts_and_a_single_one_can_be_meant(tracking: Tracking, place: Home, monkeypatch: pytest.MonkeyPatch):
    run_id = tracking.run(LOGGED)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri)
    whole, one = fetch_run(place, run_id), fetch_run(place, run_id, artifact="model/model.bin")
    assert [file.path for file in whole.bundle.files] == sorted(LOGGED)
    assert [file.path for file in one.bundle.files] == ["model.bin"]
    assert (one.folder / "model.bin").read_bytes() == b"weights"
    assert bundle_digest(one.folder) == one.bundle.digest


@pytest.mark.slow
def test_a_tracking_server_that_is_not_there_is_soon_said_to_be_out_of_reach(place: Home):
    with socket.socket() as taken:  # bound and not listening: every connection is refused
        taken.bind(("127.0.0.1", 0))
        uri = f"http://someone:secret@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match="cannot reach the tracking store http://127") as refused:
            fetch_run(place, "0" * 32, tracking_uri=uri)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["sqlite:///", "sqlite+pysqlite:///", "file://", ""])
def test_a_tracking_store_that_is_not_there_is_not_made(place: Home, tmp_path: Path, scheme: str):
    with pytest.raises(UsageError, match="there is no tracking store"):
        fetch_run(place, "0" * 32, tracking_uri=f"{scheme}{tmp_path / 'nowhere'}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_bundle_that_was_changed_since_it_was_fetched_is_refused(tracking: Tracking, place: Home):
    run_id = tracking.run(LOGGED)
    fetched = fetch_run(place, run_id, tracking_uri=tracking.uri)
    (fetched.folder / "model" / "model.bin").write_bytes(b"other")
    with pytest.raises(MlccError, match="was changed since it was fetched"):
        fetch_run(place, run_id, tracking_uri=tracking.uri)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "artifact", "why"),
    [
        ("RUNNING", "", "is running; only a finished run"),
        ("FAILED", "", "is failed; only a finished run"),
        ("KILLED", "", "is killed; only a finished run"),
        ("FINISHED", "nowhere", "check the"),
        ("FINISHED", "../..", "leads out of"),
        ("FINISHED", "/etc", "leads out of"),
        ("FINISHED", "model/../../../x", "leads out of"),
        ("FINISHED", "model\\..\\x", "leads out of"),
    ],
)
def test_a_run_that_has_no_such_bundle_leaves_nothing(
    tracking: Tracking, place: Home, status: str, artifact: str, why: str
):
    run_id = tracking.run(LOGGED, status)
    with pytest.raises(UsageError, match=why):
        fetch_run(place, run_id, artifact=artifact, tracking_uri=tracking.uri)
    assert list(place.root.rglob("*")) in ([], [place.root / "candidates"])


@pytest.mark.slow
def test_a_link_among_the_artifacts_brings_no_file_of_this_machine_along(tracking: Tracking, place: Home):
    run_id = tracking.run(LOGGED)
    stored = next((tracking.root / "artifacts").rglob(f"{run_id}/artifacts/model"))
    (stored / "passwords").symlink_to("/etc/passwd")
    # MLflow refuses it since 3.17; before, the link itself came along, which a bundle must not hold.
    with pytest.raises(UsageError, match=r"outside the artifact directory|is a link"):
        fetch_run(place, run_id, tracking_uri=tracking.uri)


@pytest.mark.slow
def test_a_run_that_nobody_knows_and_a_store_that_is_none_are_refused(tracking: Tracking, place: Home):
    with pytest.raises(UsageError, match=r"MLflow has no such bundle .*check the run id"):
        fetch_run(place, "0" * 32, tracking_uri=tracking.uri)
    with pytest.raises(UsageError, match="no tracking store is named"):
        fetch_run(place, "0" * 32)
    with pytest.raises(UsageError, match="is no run id of MLflow"):
        fetch_run(place, "../../x", tracking_uri=tracking.uri)
    with pytest.raises(UsageError, match="check the"):
        fetch_run(place, "0" * 32, tracking_uri="wish://nowhere")


def test_without_mlflow_one_sentence_says_how_to_install_it(place: Home, monkeypatch: pytest.MonkeyPatch):
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    monkeypatch.setattr(optional_packages.importlib, "import_module", absent)
    with pytest.raises(
        NotInstalled, match=r"needs the package of mlflow; install it with `pip install 'mlcc-dagster\[gate\]'`"
    ):
        fetch_run(place, "0" * 32, tracking_uri="https://tracking.example.com")
    assert not (place.root / "candidates").exists()
