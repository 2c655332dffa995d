"""Whether a language model answers the same whatever runs beside its requests.

Belongs here: a benchmark of llama.cpp whose check is correctness: at temperature 0 a question that is asked among others must get
the answer that it gets alone. Not here: serving (`serving.py`), throughput (`BenchmarkWorkload`).

Batching requests changes the order of sums and can change an answer; so can threads and the format of the key-value cache.
`LLAMA_ARG_THREADS`, `LLAMA_ARG_N_PARALLEL` and `LLAMA_ARG_CACHE_TYPE_K` set the server, as they set llama.cpp's own.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.outcome import BenchmarkPlan
from mlcc_dagster.core.stages import Stage
from mlcc_dagster.core.triage.resolution import ConcreteCell
from resources.local.language_models import chat, prompts
from resources.triage.serving import STAGES, Served, default_workload, refusals, served, whole_numbers
from resources.triage.workloads import Report, Trial

CONCURRENCY = 4
"""Questions that are asked at a time, unless `workload_config.concurrency` says otherwise."""

QUESTIONS = 4
"""Different questions, unless `workload_config.questions` says otherwise."""

TOKENS = 24
"""Tokens of an answer, unless `workload_config.tokens` says otherwise."""

_QUESTION_TOKENS = 24


@dataclass(frozen=True)
class AnswersWorkload:
    """The server is deployed afresh and must pass its test; each question is asked alone for its answer; then every step
    asks one of them while others are being answered. The trial fails when an answer differs."""

    configuration: Configuration

    @property
    def enters_environments(self) -> bool:
        """No: the server is one of this host."""
        return False

    @property
    def can_be_slowed(self) -> bool:
        """Yes: every question pauses as part of what is timed."""
        return True

    def mistakes(self, cell: ConcreteCell) -> list[str]:
        """See `Workload.mistakes`."""
        known = {"concurrency": 64, "questions": 100, "tokens": 512}
        return whole_numbers(cell.cell.config, known) + refusals(self.configuration, cell.variables.values)

    def run(self, trial: Trial) -> Report:
        """See `Workload.run`."""
        plan = BenchmarkPlan(enabled=False, workload="local_chat", concurrency_levels=(1,))
        with served(self.configuration, trial, plan, default_workload(self.configuration)) as run:
            run.prepare(*STAGES[: STAGES.index(Stage.TEST)])
            run.attempt(Stage.TEST)
            return _asked_together(run, trial)


def _asked_together(run: Served, trial: Trial) -> Report:
    concurrency = int(trial.config.get("concurrency", CONCURRENCY))
    tokens = int(trial.config.get("tokens", TOKENS))
    questions = list(prompts("triage", _QUESTION_TOKENS, int(trial.config.get("questions", QUESTIONS))))
    with httpx.Client(base_url=str(run.outputs["endpoint"]), timeout=trial.remaining(), trust_env=False) as client:

        def answer(number: int) -> tuple[str, float]:
            document = chat(questions[number % len(questions)], max_tokens=tokens) | {"ignore_eos": True, "seed": 0}
            began = time.perf_counter_ns()
            trial.pause()
            told = client.post("/invocations", json=document)
            taken = (time.perf_counter_ns() - began) / 1e6
            told.raise_for_status()
            return told.json()["choices"][0]["message"]["content"], taken

        alone = [answer(number)[0] for number in range(len(questions))]
        with ThreadPoolExecutor(concurrency) as pool:
            together = list(pool.map(answer, range(trial.steps)))
    wrong = [number for number, (text, _) in enumerate(together) if text != alone[number % len(alone)]]
    for number in wrong[:3]:
        run.log.write(f"step {number}: {together[number][0]!r} instead of {alone[number % len(alone)]!r}\n")
    return Report(
        passed=not wrong,
        step_times_ms=tuple(taken for _, taken in together),
        reason=f"{len(wrong)} of {trial.steps} answers differ from those given alone" if wrong else None,
        label="answers differ" if wrong else None,
        metrics={"concurrency": concurrency, "answers": trial.steps, "different": len(wrong)},
    )
