"""Which values are secrets, and texts without them.

Belongs here: the rule by which a variable's value is withheld, and taking values out of texts. Not here: where values come
from (`registries.py`, `recipe.py`), writing anything. Whatever this calls a secret stands in no file and no line that triage
writes; what it withholds too much can still be run, since the value comes from the environment instead.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

WITHHELD = "<withheld>"

SHORTEST_SCRUBBED = 4
"""Characters: shorter values are taken out of no text, or half of every text would go with them."""

# a list would stand one word a line
_SECRET_WORDS = frozenset(
    (  # noqa: SIM905
        "TOKEN SECRET SECRETS PASSWORD PASSWD PASSPHRASE PASS PWD PW CREDENTIAL CREDENTIALS CREDS APIKEY AUTH "
        "AUTHORIZATION BEARER COOKIE DSN JWT PAT SIGNATURE WEBHOOK"
    ).split()
)
_SECRET_LAST_WORDS = frozenset({"KEY", "KEYS"})
_SECRET_SHAPES = re.compile(
    r"""
    (?i:secret|passw|bearer[ ]|api[_-]?key)                      # says so itself
    | ://[^/\s:@]*:[^/\s@]+@                                    # user and password in an address
    | \b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|hf_|sk-|AKIA|ASIA|eyJ)[A-Za-z0-9_\-]{8,}
    | -----BEGIN[ ]
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class FromEnvironment:
    """A value that stands nowhere: it is that of an environment variable of the process that runs the matrix."""

    variable: str

    def to_json(self) -> dict[str, str]:
        """Return the form in which recipes and sidecars write it."""
        return {"from_environment": self.variable}


Setting = str | FromEnvironment
"""What a variable is set to: a text, or a reference to a value that is not written down."""


def is_secret(name: str, value: Setting, marked: frozenset[str] = frozenset()) -> bool:
    """Whether a variable's value must stand in no output.

    It is when it comes from the environment, when somebody `marked` the name, when the name has a word of secrets
    (`HF_TOKEN`, `DB_PASSWORD`, `SSH_KEY`), or when the value has the shape of one (an access key, an address with a password).
    """
    if isinstance(value, FromEnvironment) or name in marked:
        return True
    words = [word for word in re.split(r"[^A-Z0-9]+", name.upper()) if word]
    named = bool(_SECRET_WORDS & set(words)) or (bool(words) and words[-1] in _SECRET_LAST_WORDS)
    return named or _SECRET_SHAPES.search(value) is not None


@dataclass(frozen=True)
class Secret:
    """A secret that stands in a file: the `owner` (a mitigation, a cell) that sets variable `name` to `value`."""

    owner: str
    name: str
    value: str


def references(secrets: Iterable[Secret]) -> dict[tuple[str, str], FromEnvironment]:
    """Return by (owner, name) what is written in place of each secret: a reference to a variable of the same name, or, where
    two owners give that name two values, one with the owner's name before it."""
    found = list(secrets)
    values: dict[str, set[str]] = {}
    for secret in found:
        values.setdefault(secret.name, set()).add(secret.value)
    return {
        (secret.owner, secret.name): FromEnvironment(
            secret.name if len(values[secret.name]) == 1 else f"{_variable(secret.owner)}_{secret.name}"
        )
        for secret in found
    }


def _variable(owner: str) -> str:
    text = re.sub(r"[^A-Za-z0-9]", "_", owner).upper()
    return f"_{text}" if text[:1].isdigit() else text


@dataclass(frozen=True)
class Variables:
    """The environment variables of a cell with their values, and which of them are secrets."""

    values: Mapping[str, str]
    secret: frozenset[str] = frozenset()

    def shown(self) -> dict[str, str]:
        """Return what may be written of them, in their order."""
        return {name: WITHHELD if name in self.secret else value for name, value in self.values.items()}

    def secret_values(self) -> tuple[str, ...]:
        """Return the values that must stand in no output."""
        return tuple(self.values[name] for name in self.secret)


class Scrubber:
    """Takes secret values out of texts; the longest first, so that none leaves a rest of another."""

    def __init__(self, values: Iterable[str]) -> None:
        kept = {value for value in values if len(value) >= SHORTEST_SCRUBBED}
        # a value of several lines is met line by line in what a program prints
        lines = {line for value in kept for line in value.splitlines() if len(line) >= SHORTEST_SCRUBBED}
        self._values = sorted(kept | lines, key=lambda value: (-len(value), value))

    def text(self, text: str) -> str:
        """Return the text with `<withheld>` in place of every secret value."""
        for value in self._values:
            text = text.replace(value, WITHHELD)
        return text

    def document(self, document: object) -> object:
        """Return JSON values with every text in them scrubbed, keys included."""
        if isinstance(document, str):
            return self.text(document)
        if isinstance(document, Mapping):
            return {self.document(key): self.document(value) for key, value in document.items()}
        if isinstance(document, (list, tuple)):
            return [self.document(value) for value in document]
        return document

    @property
    def encoded(self) -> tuple[bytes, ...]:
        """The values as bytes, the longest first, for streams."""
        return tuple(value.encode("utf-8") for value in self._values)


class ByteScrubber:
    """Takes secret values out of a stream of bytes that comes in pieces."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._values = scrubber.encoded
        self._overlap = max(map(len, self._values), default=1) - 1
        self._held = b""

    def piece(self, piece: bytes) -> bytes:
        """Return what can be passed on by now: a value that may have begun at the end is held until it is known."""
        text = self._without(self._held + piece)
        cut = max(0, len(text) - self._overlap)
        self._held = text[cut:]
        return text[:cut]

    def rest(self) -> bytes:
        """Return what was held to the end of the stream."""
        text, self._held = self._without(self._held), b""
        return text

    def _without(self, text: bytes) -> bytes:
        for value in self._values:
            text = text.replace(value, WITHHELD.encode("ascii"))
        return text
