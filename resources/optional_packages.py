"""Packages that only some commands need, and that an installation may lack.

Belongs here: importing one, and the sentence where it is not there. Not here: what is done with it.
"""

import importlib
from types import ModuleType

from mlcc_dagster.core.exceptions import MlccError


class NotInstalled(MlccError):
    """A package of an extra is asked for and not installed."""


def optional_package(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Return a module of an optional package.

    Raises `NotInstalled` where it or something that it needs is missing; `purpose` says what it is needed for.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotInstalled(
            f"{purpose} needs the package of {error.name or module}; install it with `pip install 'mlcc-dagster[{extra}]'`"
        ) from error
