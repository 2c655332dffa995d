"""The one error of the catalog. This floor imports nothing above it, so it cannot use the platform's own base class."""

from collections.abc import Sequence


class CatalogError(Exception):
    """The catalog's data cannot be used, or a name was asked for that it does not have. Carries every problem at once.

    `problems` are sentences, each with a path such as `local_path.yaml: entries[3].tier` and what would be right;
    `subject` names what has them. `exit_code` is what a command exits with: 2, since nothing was started.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[str], subject: str = "the catalog") -> None:
        self.subject = subject
        self.problems = tuple(problems)
        count = len(self.problems)
        noun, them = ("mistake", "it") if count == 1 else ("mistakes", "them")
        head = f"{subject} has {count} {noun}; correct {them} and try again:"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))


class UnknownNameError(CatalogError):
    """A name that the catalog does not have; its one problem says which are near."""

    def __init__(self, problem: str) -> None:
        super().__init__([problem])
        self.args = (problem,)
