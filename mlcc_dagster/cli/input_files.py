"""Reading the file that a person named.

Belongs here: its bytes as text, and the sentence where that cannot be had. Not here: what the text means.
"""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mlcc_dagster.core.exceptions import InvalidInput, UsageError

_GZIP = b"\x1f\x8b"

One = TypeVar("One")
Other = TypeVar("Other")


def both_read(one: Callable[[], One], other: Callable[[], Other]) -> tuple[One, Other]:
    """Read two files of one request. Raises the `UsageError` of the one that cannot be read, `InvalidInput` naming both where
    neither can: whoever mends the first must not meet the second only then."""
    try:
        first = one()
    except UsageError as refused:
        try:
            other()
        except UsageError as also:
            raise InvalidInput("the request", [str(refused), str(also)]) from also
        raise
    return first, other()


def text_of(path: Path, what: str) -> str:
    """Return the text of a file, unpacked where it is packed with gzip; `what` names what was asked for.

    Raises `UsageError` where it cannot be read or is no text.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name {what}")
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text (byte {error.start}); name {what}") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read {path} ({reason}); name {what}") from error
