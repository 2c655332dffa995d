"""Language models: llama.cpp behind a thin front that streams.

Belongs here: what is particular to this kind: settings of the engine, what a right answer is, the prompts of a benchmark. Not
here: making weights (`weights.py`), the server's own code (templates), the client that measures (`resources.load_client`).
"""

import contextlib
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.exceptions import StageFailed
from resources.executor import StageRequest
from resources.local.serving import MEMORY_LIMIT, PORT, MadeModel, Parameter, WorkloadProfile, cpus, parameter
from resources.local.weights import PROGRAM, QUANTIZATIONS, SOURCES, WEIGHTS_FILE, make_weights

if TYPE_CHECKING:
    import httpx

    from resources.load_client import Exchange

SLOTS = 2
"""Requests that are answered at a time unless `slots` says otherwise."""

MAX_MODEL_LEN = 2048
"""Tokens of one request, prompt and answer together, unless `max_model_len` says otherwise."""

SHORTEST_MODEL_LEN, LONGEST_MODEL_LEN = 256, 8192
"""What `max_model_len` may be: below, the test's own requests would be at risk; above, the model was never trained."""

KV_CACHE_TYPE = "f16"

PARAMETERS = (
    PORT,
    MEMORY_LIMIT,
    Parameter("slots", "requests answered at a time", 1, 8),
    Parameter("threads", "threads that compute, at most as many as the instance has CPUs", 1, 64),
    Parameter("kv_cache_type", "number format of the key-value cache", choices=("f16", "q8_0", "q4_0")),
)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The model's own form without the system message that its template puts before every conversation: with that message the
most likely first token of the known answer leads by 0.16 in log probability or loses, by quantization; without it it leads
by 1.5 in all of them."""

QUESTION, ANSWER = "What is the capital of France?", "Paris"
"""What is asked at temperature 0, and what must be in the answer: every quantization here knows it."""

_ANSWER_TOKENS = 24
_TEMPLATE_TOKENS = 9
"""What the chat template adds to the tokens of one message."""

# a list would stand one word a line
_WORDS = (  # noqa: SIM905
    "time year people way day man thing woman life child world school state family student group country problem hand part "
    "place case week company system program question work government number night point home water room mother area money "
    "story fact month lot right study book eye job word business issue side kind head house service friend father power hour "
    "game line end member law car city community name president team minute idea body information back parent face level "
    "office door health person art war history party result change morning reason research girl guy moment air teacher force "
    "education"
).split()
"""Words of the synthetic prompts: each is one token of the model when a space stands before it."""


@dataclass(frozen=True)
class LanguageModel:
    """The kind that serves language models with llama.cpp inside one Python process, which is also its front."""

    name: str = "transformers-llamacpp"
    app_files: tuple[str, ...] = (
        "chat_template.jinja",
        "config.json",
        "engine.json",
        "engine.py",
        "requirements.txt",
        "serve.py",
    )
    parameters: tuple[Parameter, ...] = PARAMETERS
    # The distribution that ships the weights is not among them: what it depends on would compile another engine.
    requirements: tuple[str, ...] = ("gguf", "httpx", "numpy", "starlette", "uvicorn", "xllamacpp")

    @property
    def templates(self) -> tuple[str, ...]:
        """See `ServingKind.templates`."""
        return (self.name,)

    def refusal(self, configuration: Configuration) -> str | None:
        """See `ServingKind.refusal`."""
        if configuration.model_name in SOURCES:
            return None
        model = configuration.model_name or "no model"
        return (
            f"model {model} is not supported by {self.name} here, which has the weights of these alone: "
            f"{', '.join(SOURCES)}; use one of them"
        )

    def problems(self, configuration: Configuration) -> list[str]:
        """See `ServingKind.problems`."""
        problems = []
        if configuration.quantization not in QUANTIZATIONS:
            offered = ", ".join(QUANTIZATIONS)
            problems.append(f"{self.name} has no quantization {configuration.quantization} (it has {offered})")
        length = configuration.max_model_len
        if length is not None and not SHORTEST_MODEL_LEN <= length <= LONGEST_MODEL_LEN:
            problems.append(f"max_model_len must be from {SHORTEST_MODEL_LEN} to {LONGEST_MODEL_LEN}, not {length}")
        with contextlib.suppress(ValueError):  # no number, or no local instance: others say so
            asked, there = parameter(configuration, "threads"), cpus(configuration)
            if asked is not None and asked > there:
                problems.append(f"threads {asked} is more than the CPUs of {configuration.instance_type} ({there})")
        return problems

    def context(self, configuration: Configuration) -> Mapping[str, Any]:
        """See `ServingKind.context`."""
        return {
            "app_files": self.app_files,
            "environment": _engine_environment(configuration),
            "chat_template": CHAT_TEMPLATE,
            "engine": engine_settings(configuration),
            "quantization": configuration.quantization,
            "source": SOURCES[configuration.model_name or ""],
            "weights_file": WEIGHTS_FILE,
            "program": PROGRAM,
            "question": QUESTION,
            "answer": ANSWER,
        }

    def make_model(self, request: StageRequest, project: Path, cache: Path) -> MadeModel:
        """See `ServingKind.make_model` and `weights.make_weights`."""
        return make_weights(request, project, cache, SOURCES[request.configuration.model_name or ""])

    def command(self, *, model: Path, configuration: Configuration) -> tuple[str, ...]:
        """See `ServingKind.command`."""
        return (sys.executable, "serve.py", "--fd", "{fd}")

    def environment(self, *, model: Path, configuration: Configuration) -> Mapping[str, str]:
        """See `ServingKind.environment`."""
        return {"MODEL_DIR": str(model), **_engine_environment(configuration)}

    def try_out(self, client: "httpx.Client", *, model: Path, say: Callable[[str], None]) -> Mapping[str, Any]:
        """Ask one question whose answer is known, whole and streamed, and send one malformed request.

        Raises `StageFailed` where the answer is another one, the streamed text differs, tokens are not counted, or bad input is
        not refused with 400.
        """
        document = chat(QUESTION, max_tokens=_ANSWER_TOKENS)
        whole = _asked(client, document)
        text, usage = whole["choices"][0]["message"]["content"], whole["usage"]
        say(f"{QUESTION} -> {text!r} ({usage['prompt_tokens']} tokens in, {usage['completion_tokens']} out)")
        if ANSWER not in text:
            raise StageFailed(f"the answer to '{QUESTION}' is {text!r}, without {ANSWER}; look at weights and template")
        chunks, streamed_usage = _streamed(client, document)
        if len(chunks) < 2 or "".join(chunks) != text:
            raise StageFailed(
                f"streamed, the answer came as {len(chunks)} chunks that read {''.join(chunks)!r}; look at the front"
            )
        if streamed_usage != usage or not usage["prompt_tokens"] or not usage["completion_tokens"]:
            raise StageFailed(f"tokens were counted as {usage} whole and {streamed_usage} streamed; look at the engine")
        say(f"streamed in {len(chunks)} chunks, the same text")
        refused = client.post("/invocations", json={"messages": []})
        if refused.status_code != 400:
            raise StageFailed(f"/invocations answered {refused.status_code} to a malformed request instead of 400")
        say(f"malformed request refused with 400: {refused.json()['error']['message']}")
        return {"answer": text, "chunks": len(chunks), "usage": usage}

    def exchange(self, *, model: Path, workload: WorkloadProfile) -> "Exchange":
        """Distinct prompts of words drawn with a seed, as many as requests, each of the workload's mean length; the answer
        goes on to its full length, so that every configuration does the same work."""
        inputs, outputs = workload.input_tokens_mean, workload.output_tokens_mean
        if inputs is None or outputs is None:
            raise StageFailed(
                f"workload {workload.name} is for predictors and says no token counts; measure a language model with one "
                "that does, such as local_chat",
                category="service_limitation",
            )
        documents = tuple(
            chat(prompt, max_tokens=outputs, stream=workload.streaming) | {"ignore_eos": True, "seed": 0}
            for prompt in prompts(workload.name, inputs, workload.requests)
        )
        from resources.load_client import CompletionExchange

        return CompletionExchange("/invocations", documents)

    def engine(self) -> str:
        """See `ServingKind.engine`."""
        return f"llama.cpp (xllamacpp {metadata.version('xllamacpp')})"


LLAMACPP = LanguageModel()


def engine_settings(configuration: Configuration) -> Mapping[str, Any]:
    """Return how the engine runs: threads as the instance has CPUs unless `threads` says fewer, never more, or threads wait
    for each other."""
    return {
        "model_name": configuration.model_name,
        "weights": WEIGHTS_FILE,
        "threads": _threads(configuration),
        "slots": parameter(configuration, "slots") or SLOTS,
        "max_model_len": configuration.max_model_len or MAX_MODEL_LEN,
        "kv_cache_type": configuration.serving_params.get("kv_cache_type", KV_CACHE_TYPE),
    }


def _threads(configuration: Configuration) -> int:
    return parameter(configuration, "threads") or cpus(configuration)


def _engine_environment(configuration: Configuration) -> Mapping[str, str]:
    """Return what the engine's libraries read: the same for the process, the scripts and the container."""
    return {
        "OMP_NUM_THREADS": str(_threads(configuration)),
        # How long a thread spins before it sleeps. Longer, two threads on two busy cores wait for each other and fall to a
        # twentieth of their speed (1 to 5 tokens a second, this: 10 to 26); shorter costs half of it on idle ones.
        "GOMP_SPINCOUNT": "1000",
        # each arena reserves 64 MB of address space, which a memory limit counts
        "MALLOC_ARENA_MAX": "2",
        # an engine that aborts would start a debugger for a backtrace and hold the server up with it
        "GGML_NO_BACKTRACE": "1",
    }


def chat(content: str, *, max_tokens: int, stream: bool = False) -> dict[str, Any]:
    """Return a request with one message, answered at temperature 0."""
    messages = [{"role": "user", "content": content}]
    return {"messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": stream}


def prompts(name: str, tokens: int, count: int) -> Iterator[str]:
    """Yield `count` prompts of `tokens` tokens each, the chat template's included (at least one word); the same for the
    same name, different ones within it for as long as there are different ones."""
    drawn = random.Random(f"{name}:{tokens}")
    seen: set[str] = set()
    for index in range(count):
        words = [drawn.choice(_WORDS) for _ in range(max(1, tokens - _TEMPLATE_TOKENS))]
        prompt = " " + " ".join(words)
        if prompt in seen:
            # so short that draws repeat: the count makes the difference, at the price of a token
            prompt = f"{prompt} {index}"
        seen.add(prompt)
        yield prompt


def _asked(client: "httpx.Client", document: Mapping[str, Any]) -> dict[str, Any]:
    answer = client.post("/invocations", json=document)
    if answer.status_code != 200:
        raise StageFailed(f"/invocations answered {answer.status_code} to a right request: {answer.text[:300]}")
    return answer.json()


def _streamed(client: "httpx.Client", document: Mapping[str, Any]) -> tuple[list[str], dict[str, Any] | None]:
    """Return the texts of the chunks and the token counts that came with them."""
    from resources.load_client import event_data

    chunks, usage = [], None
    with client.stream("POST", "/invocations", json={**document, "stream": True}) as answer:
        if answer.status_code != 200:
            answer.read()
            raise StageFailed(f"/invocations answered {answer.status_code} to a stream: {answer.text[:300]}")
        for line in answer.iter_lines():
            data = event_data(line)
            if data is None or data == "[DONE]":
                continue
            event = json.loads(data)
            usage = event.get("usage") or usage
            chunks += [text for choice in event.get("choices", []) if (text := choice["delta"].get("content"))]
    return chunks, usage
