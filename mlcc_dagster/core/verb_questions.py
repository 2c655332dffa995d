"""Questions of a grammar tutor: which form of the verb comes next, made up by rules so that the right answer is known.

Belongs here: verbs and their forms, sentences that leave one form only, and drawing questions with a seed. Not here: the
file (`eval_sets.py`).

Each question is the beginning of a sentence (`Two years ago my brother`) and all forms of one verb (`write writes wrote
written writing`); one form alone is right there. It counts in three buckets: its tense, its person and the class of its
verb. Every form is one token of the model that is measured here, and of most others: they are frequent words.
"""

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mlcc_dagster.core.eval_sets import EvalSet, Question
from mlcc_dagster.core.exceptions import UsageError

NAME = "english-verb-forms"
PER_CELL = 10
"""Questions for each tense, person and class of verb together, unless somebody says otherwise."""

SEED = 1


@dataclass(frozen=True)
class Verb:
    """The forms of a verb: base, third person, past, past participle, participle in -ing; several may be alike."""

    base: str
    third: str
    past: str
    participle: str
    ing: str

    @classmethod
    def read(cls, text: str) -> "Verb":
        """Read `go goes went gone going`, or of a regular verb `ask`."""
        forms = text.split()
        if len(forms) > 1:
            return cls(*forms)
        stem = text.removesuffix("e")
        return cls(text, f"{text}s", f"{stem}ed", f"{stem}ed", f"{stem}ing")


VERBS: Mapping[str, tuple[Verb, ...]] = MappingProxyType(
    {
        name: tuple(Verb.read(text) for text in texts.split(","))
        for name, texts in {
            "regular": (
                "ask,call,help,play,look,want,need,use,open,close,start,live,move,learn,turn,talk,add,allow,believe,change,"
                "check,claim,cover,create,explain,follow,include,join,love,offer,receive"
            ),
            "vowel-change": (
                "go goes went gone going,write writes wrote written writing,take takes took taken taking,"
                "see sees saw seen seeing,give gives gave given giving,know knows knew known knowing,"
                "speak speaks spoke spoken speaking,break breaks broke broken breaking,choose chooses chose chosen choosing,"
                "eat eats ate eaten eating,drive drives drove driven driving,begin begins began begun beginning,"
                "draw draws drew drawn drawing,throw throws threw thrown throwing,wear wears wore worn wearing,"
                "hide hides hid hidden hiding,drink drinks drank drunk drinking,sing sings sang sung singing"
            ),
            "two-form": (
                "make makes made made making,find finds found found finding,keep keeps kept kept keeping,"
                "hold holds held held holding,tell tells told told telling,think thinks thought thought thinking,"
                "leave leaves left left leaving,bring brings brought brought bringing,buy buys bought bought buying,"
                "meet meets met met meeting,lose loses lost lost losing,send sends sent sent sending,"
                "build builds built built building,spend spends spent spent spending,win wins won won winning,"
                "teach teaches taught taught teaching,catch catches caught caught catching,sell sells sold sold selling,"
                "say says said said saying,hear hears heard heard hearing"
            ),
            "unchanged": (
                "put puts put put putting,set sets set set setting,cut cuts cut cut cutting,let lets let let letting,"
                "hit hits hit hit hitting,hurt hurts hurt hurt hurting,spread spreads spread spread spreading,"
                "split splits split split splitting,cast casts cast cast casting,bet bets bet bet betting"
            ),
            "auxiliary": "be is was been being,have has had had having,do does did done doing",
        }.items()
    }
)
"""Verbs by class. A regular one is its base alone: those here take -s, -ed and -ing without a change of spelling."""

PERSONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "first-singular": ("I",),
        "second": ("you",),
        "third-singular": ("he", "she", "my brother", "the teacher"),
        "first-plural": ("we",),
        "third-plural": ("they", "my friends", "the students"),
    }
)
"""Subjects by person."""

TENSES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "present": (
            "These days {s}",
            "Nowadays {s} usually",
            "At present {s} often",
            "Currently {s} never",
            "These days {s} always",
            "Nowadays {s} rarely",
            "At present {s} still",
            "Nowadays {s}",
        ),
        "past": (
            "Yesterday {s}",
            "Last week {s}",
            "Two years ago {s}",
            "In 1990 {s}",
            "Last night {s}",
            "A month ago {s}",
            "Last summer {s} often",
            "Yesterday morning {s}",
        ),
        "future": (
            "Tomorrow {s} will",
            "Next year {s} will",
            "Soon {s} will",
            "Next week {s} will probably",
            "Tomorrow {s} will not",
            "One day {s} will",
            "Next summer {s} will always",
            "Later {s} will",
        ),
        "perfect": (
            "Since Monday {s} {have} never",
            "So far {s} {have} already",
            "Until now {s} {have} never",
            "In recent years {s} {have} often",
            "So far {s} {have} always",
            "Until now {s} {have} rarely",
            "Since then {s} {have} already",
            "Lately {s} {have} often",
        ),
        "progressive": (
            "Right now {s} {be} busy",
            "At this moment {s} {be} busy",
            "Today {s} {be} still busy",
            "Once again {s} {be} busy",
            "Now {s} {be} too busy",
            "Every day {s} {spend} hours",
            "All week {s} {be} busy",
            "Tonight {s} will be busy",
        ),
    }
)
"""Beginnings of sentences by the form that they leave as the only right one. `{s}` is the subject; `{have}`, `{be}` and
`{spend}` agree with it. No beginning may let a noun or a passive follow: "tired of talk", "is taken" are right English
too."""


def most_per_cell() -> int:
    """Return how many different questions the smallest cell has."""
    return min(
        len(VERBS[verbs]) * len(TENSES[tense]) * len(PERSONS[person])
        for tense, person, verbs in itertools.product(TENSES, PERSONS, VERBS)
    )


def verb_questions(*, seed: int = SEED, per_cell: int = PER_CELL) -> EvalSet:
    """Draw `per_cell` questions for each tense, person and class of verb, without repetition; the same seed draws the same.

    Raises `UsageError` where there are not so many.
    """
    if not 1 <= per_cell <= most_per_cell():
        raise UsageError(f"--per-cell must be from 1 to {most_per_cell()}, not {per_cell}")
    questions = []
    for tense, person, verbs in itertools.product(TENSES, PERSONS, VERBS):
        # Each cell has luck of its own: the questions of one must not change with the number of another's.
        chance = random.Random(f"{NAME}:{seed}:{tense}:{person}:{verbs}")
        possible = list(itertools.product(VERBS[verbs], range(len(TENSES[tense])), range(len(PERSONS[person]))))
        questions += [
            _question(tense, person, verbs, verb, frame, subject)
            for verb, frame, subject in chance.sample(possible, per_cell)
        ]
    return EvalSet(NAME, tuple(questions), MappingProxyType({"seed": seed, "per_cell": per_cell}))


def _question(tense: str, person: str, verbs: str, verb: Verb, frame: int, subject: int) -> Question:
    third = person == "third-singular"
    words = {
        "s": PERSONS[person][subject],
        "have": "has" if third else "have",
        "be": _be(person),
        "spend": "spends" if third else "spend",
    }
    answer = right_form(verb, tense, person)
    return Question(
        id=f"{tense}/{person}/{verbs}/{verb.base}/{frame + 1}.{subject + 1}",
        prompt=TENSES[tense][frame].format(**words),
        choices=tuple(f" {form}" for form in forms_of(verb)),
        answer=f" {answer}",
        buckets=(f"tense:{tense}", f"person:{person}", f"verb:{verbs}"),
    )


def forms_of(verb: Verb) -> tuple[str, ...]:
    """Return the different forms of a verb, in the order of the alphabet: their place says nothing of the answer."""
    extra = ("am", "are", "were") if verb.base == "be" else ()
    return tuple(sorted({verb.base, verb.third, verb.past, verb.participle, verb.ing, *extra}))


def right_form(verb: Verb, tense: str, person: str) -> str:
    """Return the form that a sentence of this tense and person goes on with."""
    if tense == "future":
        return verb.base
    if tense == "perfect":
        return verb.participle
    if tense == "progressive":
        return verb.ing
    if verb.base == "be":
        return (
            _be(person) if tense == "present" else "was" if person in ("first-singular", "third-singular") else "were"
        )
    if tense == "past":
        return verb.past
    return verb.third if person == "third-singular" else verb.base


def _be(person: str) -> str:
    return {"first-singular": "am", "third-singular": "is"}.get(person, "are")


def every_form() -> Iterator[str]:
    """Yield every form that a choice can be, with the space before it, once."""
    yield from sorted({f" {form}" for verbs in VERBS.values() for verb in verbs for form in forms_of(verb)})
