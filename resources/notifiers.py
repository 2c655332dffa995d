"""Telling people that a run failed or a model was promoted: a line in the log, and a web hook where one is set.

Belongs here: what is told, and bringing it there within bounds. Not here: when (a sensor), what failed (`core.outcome`). Telling
never breaks anything: what could not be delivered is a sentence, which the caller logs. The address of a web hook is a secret
(whoever has it may post there), so of it only the host is ever shown.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from resources.settings import Settings

NOTICE_VERSION = "1"
TRIES = 3
TRY_SECONDS = 2.5
FIRST_WAIT_SECONDS = 0.5
"""Three tries and the waits between them take 9 s at most: a sensor tells of five runs in a tick, which may last 60 s."""

LONGEST_LINE = 1_000
"""Characters of the deciding line and of the sentence: receivers refuse large messages."""

_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

_LOG = logging.getLogger(__name__)

_SENDING: ContextVar[bool] = ContextVar("sending", default=False)


def _without_addresses(record: logging.LogRecord) -> bool:
    """Keep back what the client logs of our requests: its lines name the whole address."""
    return not _SENDING.get()


@dataclass(frozen=True)
class FailureNotice:
    """A run that failed. `configuration` in words; `run_id` is none where it failed before its claim; `stage`, `category` and
    `line` (the one that decided) are none where nobody knows; `expected` says that it failed as its catalog entry exists to
    show; `url` leads to the run's page, none where the page's address is not set."""

    config_id: str
    name: str
    configuration: str
    run_id: str | None
    stage: str | None
    category: str | None
    line: str | None
    sentence: str
    expected: bool
    round: str | None
    tier: str | None
    dagster_run_id: str
    url: str | None
    failed_at: str

    def to_json(self) -> dict[str, Any]:
        """Return the message that receivers get; absent is null. `text` is what chat services show."""
        values = asdict(self) | {"line": _short(self.line), "sentence": _short(self.sentence)}
        return {"schema_version": NOTICE_VERSION, "event": "run_failed", "text": self.text, **values}

    @property
    def text(self) -> str:
        """The notice as one line for people."""
        where = f" at {self.stage}" if self.stage else ""
        why = f" ({self.category})" if self.category else ""
        as_expected = ", as its entry expects" if self.expected else ""
        link = f" {self.url}" if self.url else ""
        return f"{self.name} failed{where}{why}{as_expected}: {_short(self.line or self.sentence)}{link}"

    @property
    def occasion(self) -> str:
        """See `Notice.occasion`: the run that failed."""
        return self.dagster_run_id

    @property
    def log_line(self) -> str:
        """See `Notice.log_line`."""
        return f"{self.text} (run {self.run_id or '-'}, Dagster run {self.dagster_run_id})"

    @property
    def worrying(self) -> bool:
        """See `Notice.worrying`: what was expected to fail worries nobody."""
        return not self.expected


@dataclass(frozen=True)
class PromotionNotice:
    """A version that an environment has now: the content digest that it names, the gate's verdict (none where no gate judged
    it), who promoted it and when."""

    version: str
    digest: str
    env: str
    gate: str | None
    identity: str
    promoted_at: str

    def to_json(self) -> dict[str, Any]:
        """Return the message that receivers get; absent is null."""
        return {"schema_version": NOTICE_VERSION, "event": "promoted", "text": self.text, **asdict(self)}

    @property
    def text(self) -> str:
        """The notice as one line for people."""
        return f"promoted {self.version} in {self.env} ({self.digest[:12]}) by {self.identity}"

    @property
    def occasion(self) -> str:
        """See `Notice.occasion`: a version is given once in an environment."""
        return f"promoted-{self.env}-{self.version}"

    @property
    def log_line(self) -> str:
        """See `Notice.log_line`."""
        return self.text

    @property
    def worrying(self) -> bool:
        """See `Notice.worrying`."""
        return False


class Notice(Protocol):
    """Something to be told."""

    @property
    def occasion(self) -> str:
        """What it is told of: the same again is a repetition."""
        ...

    @property
    def log_line(self) -> str:
        """The notice as one line for a log."""
        ...

    @property
    def worrying(self) -> bool:
        """Whether somebody should look at it."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return the message that receivers get."""
        ...


class Notifier(Protocol):
    """Brings a notice somewhere."""

    def notify(self, notice: Notice) -> None:
        """Deliver it, or raise `NotDelivered`."""
        ...


class NotDelivered(Exception):
    """A notice did not arrive; the text says where it should have gone and why, without any secret."""


class LogNotifier:
    """Writes the notice into a log, as a warning where it is worrying, else as information."""

    def __init__(self, log: logging.Logger = _LOG) -> None:
        self._log = log

    def notify(self, notice: Notice) -> None:
        """See `Notifier.notify`; never raises."""
        self._log.log(logging.WARNING if notice.worrying else logging.INFO, "%s", notice.log_line)


class WebhookNotifier:
    """Posts the notice as JSON. A try takes `seconds` at most, whatever the receiver does; where it cannot be reached, is too
    slow or says that it is busy, it is tried again, `TRIES` times in all, after `first_wait_seconds` and then twice as long.
    Redirections are not followed."""

    def __init__(
        self, url: str, *, seconds: float = TRY_SECONDS, first_wait_seconds: float = FIRST_WAIT_SECONDS
    ) -> None:
        self._url = url
        self._seconds = seconds
        self._first_wait_seconds = first_wait_seconds
        logging.getLogger("httpx").addFilter(_without_addresses)

    def __repr__(self) -> str:
        """Show the host alone."""
        return f"WebhookNotifier({shown_address(self._url)})"

    def notify(self, notice: Notice) -> None:
        """See `Notifier.notify`. The header `Idempotency-Key` names the occasion, so that a receiver can tell a repetition."""
        trying = Retrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_exponential(multiplier=self._first_wait_seconds),
            retry=retry_if_exception_type(_Unreached),
            reraise=True,
        )
        try:
            trying(self._post, notice)
        except _Unreached as unreached:
            raise NotDelivered(f"{shown_address(self._url)}: {unreached} ({TRIES} tries)") from None
        except NotDelivered as refused:
            raise NotDelivered(f"{shown_address(self._url)}: {refused}") from None

    def _post(self, notice: Notice) -> None:
        token = _SENDING.set(True)
        try:
            status = asyncio.run(self._status(notice))
        finally:
            _SENDING.reset(token)
        if status in _TRY_AGAIN:
            raise _Unreached(f"it answered {status}")
        if not 200 <= status < 300:
            raise NotDelivered(f"it answered {status}; check the setting notify_webhook")

    async def _status(self, notice: Notice) -> int:
        async def send() -> int:
            # Only the head of the answer is wanted: its body may be endless.
            async with (
                httpx.AsyncClient(timeout=self._seconds, follow_redirects=False) as client,
                client.stream(
                    "POST", self._url, json=notice.to_json(), headers={"Idempotency-Key": notice.occasion}
                ) as response,
            ):
                return response.status_code

        try:
            # The client's own timeout is for each piece, so that a receiver that drips would never run into it.
            return await asyncio.wait_for(send(), self._seconds)
        except (TimeoutError, httpx.TimeoutException):
            raise _Unreached(f"no answer within {self._seconds:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            # Not the error's own text: it may hold the address.
            raise _Unreached(f"it cannot be reached ({type(error).__name__})") from None


class _Unreached(Exception):
    """Worth another try."""


def notifiers_of(settings: Settings, log: logging.Logger) -> tuple[Notifier, ...]:
    """Return who is told: the log always, the web hook where one is set."""
    always: tuple[Notifier, ...] = (LogNotifier(log),)
    if settings.notify_webhook is None:
        return always
    return (*always, WebhookNotifier(settings.notify_webhook))


def tell(notifiers: Sequence[Notifier], notice: Notice) -> tuple[str, ...]:
    """Give a notice to all notifiers and return what did not arrive, one sentence each. Never raises."""
    problems = []
    for notifier in notifiers:
        try:
            notifier.notify(notice)
        except NotDelivered as problem:
            problems.append(str(problem))
        except Exception as error:
            # A defect of a notifier must not cost the others their notice; its text may hold a secret.
            problems.append(f"{notifier!r}: {type(error).__name__}")
    return tuple(problems)


def shown_address(url: str) -> str:
    """Return the part of an address that is no secret: scheme, host and port, without user, path and query."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{port}/..."


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}..."
