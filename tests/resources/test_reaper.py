"""The reaper: after one reap nothing of a dead run remains, nothing is ended or charged twice, the living are left
alone."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import pytest
from filelock import FileLock

from catalog.model import Instance
from mlcc_dagster.core.configuration import Configuration
from mlcc_dagster.core.evidence import Evidence
from mlcc_dagster.core.exceptions import MlccError, StageFailed
from mlcc_dagster.core.outcome import BenchmarkPlan, Claim, Outcome, Owner
from mlcc_dagster.core.prices import Billing
from mlcc_dagster.core.stages import Stage
from resources import processes
from resources.ci_table import Commit
from resources.executor import StageRequest
from resources.home import Home
from resources.ledger import Ledger
from resources.processes import ProcessIdentity
from resources.reaper import Interrupted, Reaped, reap
from resources.sqlite_ci_table import SqliteCiTable
from resources.stage_runner import run_stage

ROOT = Path(__file__).parents[2]
LEASE = 90.0
CONFIGURATION = Configuration("http-fastapi", "iris", "sklearn", "local.1cpu", "local")
PLAN = BenchmarkPlan(False, "chat", (1,))
COMMIT = Commit(
    rows=({"run_id": "x"},),
    status="completed",
    test_status="pass",
    run_status="pass",
    duration_seconds=1.0,
    cost_usd=0.02,
)
PRICE = 0.001


def sleeper(home: Path, tag: str | None) -> subprocess.Popen[bytes]:
    """Start a real process of a session of its own that carries the tag of a run of `home`."""
    environment = {"MLCC_HOME": str(home), "PATH": os.environ["PATH"]} | ({"MLCC_LEASE": tag} if tag else {})
    return subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True)


class Sleeps:
    """An executor whose deployment is a sleeping process; it counts its cleanings. `die_at` kills this very process."""

    name = "sleeps"
    billing = Billing.MACHINE

    def __init__(self, home: Path, *, die_at: str | None = None) -> None:
        self.home = home
        self.die_at = die_at
        self.cleaned: list[str] = []
        self.broken = False

    def digests(self, deployment_config: str) -> Mapping[str, str]:
        return {}

    def reaches(self, instance: Instance) -> bool:
        return instance.local

    def can_run(self, configuration: Configuration) -> str | None:
        return None

    def _maybe_die(self, where: str) -> None:
        if where == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def perform(self, request: StageRequest) -> Mapping[str, Any]:
        self._maybe_die(f"begin of {request.stage}")
        if request.stage is Stage.DEPLOY:
            number = request.ledger.intend(
                run_id=request.run_id, kind="process", ref="sleep", deadline_seconds=request.remaining()
            )
            self._maybe_die("after intent")
            child = sleeper(self.home, request.lease_tag)
            self._maybe_die("after start")
            identity = processes.identify(child.pid)
            assert identity is not None
            request.ledger.confirm(number, identity.to_json())
            self._maybe_die("after confirmation")
        return {}

    def clean(self, run_id: str, ledger: Ledger, log: TextIO) -> None:
        self.cleaned.append(run_id)
        if self.broken:
            raise StageFailed("the endpoint cannot be reached")
        for resource in ledger.alive(run_id):
            if resource.kind == "process":
                known = ProcessIdentity.from_json(resource.details)
                for found in [known] if known else processes.tagged(run_id):
                    log.write(f"{processes.end(found, 5.0).value}\n")
                ledger.release(resource.id, "ended by clean")

    def evidence(self, configuration: Configuration, outputs: Mapping[str, Any]) -> Evidence:
        return Evidence(engine="none", execution="process")


class Folder:
    """A store of empty files, created once each."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def publish(self, run_id: str, rows: Sequence[Mapping[str, Any]], /) -> Path:
        path = self.root / run_id
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
        return path


class Platform:
    """A home with all that a reaper needs."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root).ensure()
        self.ci = SqliteCiTable(self.home.database)
        self.ledger = Ledger(self.home.database)
        self.store = Folder(self.home.results)
        self.executor = Sleeps(self.home.root)

    def claim(self, key: str, owner: Owner, *, lease: float = LEASE, round: str = "1") -> Claim:
        claim = self.ci.claim(
            key,
            configuration=CONFIGURATION,
            round=round,
            owner=owner,
            lease_seconds=lease,
            run_type="ci",
            benchmark=PLAN,
        )
        assert isinstance(claim, Claim)
        return claim

    def stage(self, stage: Stage, claim: Claim) -> None:
        run_stage(
            stage,
            Outcome(claim, CONFIGURATION, "ci", frozenset(Stage), PLAN),
            executor=self.executor,
            home=self.home,
            ci=self.ci,
            ledger=self.ledger,
            limit_seconds=60,
        )

    def reap(self, *, later: float = 0.0, wait_seconds: float = 60.0) -> Reaped:
        return reap(
            home=self.home,
            ci=self.ci,
            ledger=self.ledger,
            store=self.store,
            executor=self.executor,
            interrupted_usd=lambda attempt, now: (
                PRICE * (now - datetime.fromisoformat(attempt.started_at)).total_seconds()
            ),
            now=time.time() + later,
            wait_seconds=wait_seconds,
        )

    def processes_of(self, run_id: str) -> tuple[ProcessIdentity, ...]:
        return processes.tagged(run_id)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A configuration of this test alone: tags are looked for on the whole machine."""
    return f"{os.getpid():x}{time.monotonic_ns():x}"


@pytest.fixture
def platform(tmp_path: Path, key: str) -> Iterator[Platform]:
    platform = Platform(tmp_path.resolve() / "home")
    yield platform
    for tag, process in processes.tagged_all():
        if tag.startswith(key):
            processes.end(process, 5.0)


@pytest.fixture
def dead() -> Owner:
    """The identity of a real process that was killed."""
    child = subprocess.Popen(["sleep", "600"])
    identity = processes.identify(child.pid)
    assert identity is not None
    child.kill()
    child.wait()
    return Owner(socket.gethostname(), identity.pid, identity.start_ticks, identity.boot_id, "dagster-run-dead")


@pytest.fixture
def alive() -> Owner:
    return processes.this_process("dagster-run-alive")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from test_reaper import Platform, Sleeps
from mlcc_dagster.core.stages import Stage
from resources import processes

platform = Platform(Path(sys.argv[1]))
platform.executor = Sleeps(platform.home.root, die_at=sys.argv[2])
claim = platform.claim(sys.argv[3], processes.this_process("dagster-run-killed"))
platform.ledger.reserve("b", "k", 1.0, ceiling_usd=1.0, deadline_seconds=600)
platform.ledger.activate("k", claim.run_id)
for stage in (Stage.GENERATE, Stage.DEPLOY, Stage.TEST):
    platform.stage(stage, claim)
"""


@pytest.mark.parametrize(
    "where",
    [
        pytest.param("begin of generate", id="before anything but the workspace"),
        pytest.param("begin of deploy", id="with the slot in hand"),
        pytest.param("after intent", id="a resource that was only intended"),
        pytest.param("after start", id="a process that nobody wrote down"),
        pytest.param("after confirmation", id="half way through deploy"),
        pytest.param("begin of test", id="on the boundary of two stages"),
    ],
)
def test_after_kill_9_one_reap_leaves_nothing_and_charges_the_time(where: str, platform: Platform, key: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", KILLED, str(platform.home.root), where, key, str(Path(__file__).parent)],
        cwd=ROOT,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    run_id = f"{key}-g1"
    deployed = where in ("after start", "after confirmation", "begin of test")
    assert len(platform.processes_of(run_id)) == deployed
    assert (platform.home.workspaces / run_id).exists()

    done = platform.reap(later=100)

    assert [(i.run_id, i.dagster_run_id) for i in done.interrupted] == [(run_id, "dagster-run-killed")]
    assert done.problems == ()
    assert platform.processes_of(run_id) == ()
    assert platform.ledger.alive() == platform.ledger.slots() == []
    assert list(platform.home.workspaces.iterdir()) == []
    (attempt,) = platform.ci.attempts(key)
    assert attempt.state == "interrupted"
    assert 0.1 <= (attempt.cost_usd or 0) < 1
    assert platform.ledger.totals("b").spent_usd == pytest.approx(attempt.cost_usd, abs=1e-6)
    assert platform.ledger.totals("b").active_usd == 0
    intended = deployed or where == "after intent"
    assert sorted(e.kind for e in done.ended) == ["process", "workspace"][not intended :]

    assert platform.reap(later=200) == Reaped(), "reaping again changes nothing"
    assert platform.executor.cleaned == [run_id], "nothing is cleaned twice"
    assert isinstance(platform.claim(key, processes.this_process("next")), Claim), "it may be run again at once"


def test_a_living_owner_is_left_alone(platform: Platform, key: str, alive: Owner) -> None:
    claim = platform.claim(key, alive)
    platform.stage(Stage.DEPLOY, claim)
    assert platform.reap() == Reaped()
    assert platform.reap(later=2 * LEASE) == Reaped(), "its lease ran out, and it lives"
    assert len(platform.processes_of(claim.run_id)) == 1
    assert [a.run_id for a in platform.ci.running()] == [claim.run_id]


def test_a_living_owner_that_let_lease_and_deadline_pass_is_ended(platform: Platform, key: str, alive: Owner) -> None:
    claim = platform.claim(key, alive)
    platform.stage(Stage.DEPLOY, claim)
    done = platform.reap(later=10_000)
    assert [i.run_id for i in done.interrupted] == [claim.run_id]
    assert platform.processes_of(claim.run_id) == ()


def test_a_stopped_owner_whose_resources_were_ended_at_their_deadline_is_ended_too(
    platform: Platform, key: str, alive: Owner
) -> None:
    claim = platform.claim(key, alive)
    platform.stage(Stage.DEPLOY, claim)
    platform.ci.beat(claim, 15_000)
    first = platform.reap(later=10_000)
    assert (first.interrupted, len(first.ended)) == ((), 2), "its lease lives, what it held was overdue"
    assert [i.run_id for i in platform.reap(later=20_000).interrupted] == [claim.run_id]


def test_a_resource_past_its_deadline_is_ended_though_its_run_still_beats(
    platform: Platform, key: str, alive: Owner
) -> None:
    claim = platform.claim(key, alive)
    platform.stage(Stage.DEPLOY, claim)
    platform.ci.beat(claim, 1_000_000)
    done = platform.reap(later=10_000)
    assert done.interrupted == ()
    assert sorted(e.kind for e in done.ended) == ["process", "workspace"]
    assert platform.processes_of(claim.run_id) == ()


@pytest.mark.parametrize(
    ("later", "ended"),
    [
        pytest.param(LEASE + 1, False, id="a late beat is still possible"),
        pytest.param(2 * LEASE + 1, True, id="a whole lease later nobody beats any more"),
    ],
)
def test_an_owner_on_another_host_is_judged_by_its_lease(
    later: float, ended: bool, platform: Platform, key: str, dead: Owner
) -> None:
    claim = platform.claim(key, Owner("elsewhere", dead.pid, dead.start_ticks, dead.boot_id, "far"))
    done = platform.reap(later=later)
    assert [i.run_id for i in done.interrupted] == ([claim.run_id] if ended else [])


def test_a_dead_owners_commit_goes_forward_and_its_rest_is_cleaned(platform: Platform, key: str, dead: Owner) -> None:
    claim = platform.claim(key, dead)
    platform.ledger.reserve("b", "k", 1.0, ceiling_usd=1.0, deadline_seconds=600)
    platform.ledger.activate("k", claim.run_id)
    platform.stage(Stage.DEPLOY, claim)
    platform.ci.intend(claim, COMMIT)
    done = platform.reap()
    assert (done.recovered, done.interrupted) == ((claim.run_id,), ())
    assert done.dead_dagster_runs == ("dagster-run-dead",)
    assert [p.name for p in platform.home.results.iterdir()] == [claim.run_id]
    assert platform.ledger.alive() == []
    assert platform.ledger.totals("b").spent_usd == 0.02, "what it said it had used"
    assert platform.reap() == Reaped()


def test_a_run_that_was_taken_over_is_cleaned_charged_and_reported_once(
    platform: Platform, key: str, dead: Owner, alive: Owner
) -> None:
    old = platform.claim(key, dead)
    platform.ledger.reserve("b", "k", 1.0, ceiling_usd=1.0, deadline_seconds=600)
    platform.ledger.activate("k", old.run_id)
    platform.stage(Stage.DEPLOY, old)
    platform.ci.beat(old, 0.0)
    new = platform.claim(key, alive)
    done = platform.reap(later=50)
    assert [(i.run_id, i.dagster_run_id) for i in done.interrupted] == [(old.run_id, "dagster-run-dead")]
    assert platform.processes_of(old.run_id) == ()
    assert platform.ledger.totals("b").spent_usd > 0.04
    assert [a.run_id for a in platform.ci.running()] == [new.run_id]
    assert platform.reap(later=60) == Reaped()


def test_a_taken_over_run_whose_process_lives_loses_its_resources_but_ends_by_itself(
    platform: Platform, key: str, alive: Owner
) -> None:
    old = platform.claim(key, alive)
    platform.stage(Stage.DEPLOY, old)
    platform.ci.beat(old, 0.0)
    platform.claim(key, alive)
    done = platform.reap()
    assert (done.interrupted, done.dead_dagster_runs) == ((), ())
    assert platform.processes_of(old.run_id) == ()
    assert [a.run_id for a in platform.ci.taken_over()] == [old.run_id], "looked at again when it has ended"


def test_strays_of_this_home_are_ended_and_no_others(
    platform: Platform, key: str, alive: Owner, tmp_path: Path
) -> None:
    running = platform.claim(key, alive)
    over = f"{key}-g7"
    stray = sleeper(platform.home.root, over)
    children = [
        stray,
        sleeper(platform.home.root, running.run_id),
        sleeper(tmp_path / "another-home", over),
        sleeper(platform.home.root, None),
    ]
    try:
        done = platform.reap()
        assert [(e.run_id, e.kind, e.ref) for e in done.ended] == [(over, "stray process", str(stray.pid))]
        assert stray.wait(20) == -signal.SIGTERM
        assert [child.poll() for child in children[1:]] == [None, None, None]
    finally:
        for child in children:
            child.kill()
            child.wait()


def test_promises_are_released_when_no_run_came_and_settled_when_it_is_over(
    platform: Platform, key: str, alive: Owner
) -> None:
    claim = platform.claim(key, alive)
    for run_key in ("over", "lost", "waiting", "never came"):
        seconds = 10 if run_key == "never came" else 1000
        platform.ledger.reserve("b", run_key, 0.2, ceiling_usd=1.0, deadline_seconds=seconds)
    platform.ledger.activate("over", claim.run_id)
    platform.ledger.activate("lost", f"{key}-g99")
    platform.ci.intend(claim, COMMIT)
    platform.ci.finish(claim.run_id)
    assert platform.reap(later=20).released_reservations == ("never came",)
    states = {r.run_key: (r.state, r.spent_usd) for r in platform.ledger.reservations()}
    assert states == {
        "over": ("settled", 0.02),
        "lost": ("settled", 0.2),
        "waiting": ("reserved", 0.0),
        "never came": ("released", 0.0),
    }


def test_what_cannot_be_cleaned_is_said_and_tried_again(platform: Platform, key: str, dead: Owner) -> None:
    claims = [platform.claim(f"{key}{n}", dead) for n in "ab"]
    for claim in claims:
        platform.stage(Stage.DEPLOY, claim)
        platform.ledger.release_slots(claim.run_id)
    platform.executor.broken = True
    done = platform.reap()
    assert [i.run_id for i in done.interrupted] == [c.run_id for c in claims]
    assert len(done.problems) == 2
    assert "the endpoint cannot be reached" in done.problems[0]
    assert [r.kind for r in platform.ledger.alive()] == ["process", "process"]
    assert "cannot be reached" in (platform.home.logs / claims[0].run_id / "reap.log").read_text()
    platform.executor.broken = False
    assert sorted(e.run_id for e in platform.reap().ended) == [c.run_id for c in claims]


def test_a_commit_that_cannot_be_published_holds_up_nothing_else(platform: Platform, key: str, dead: Owner) -> None:
    stuck, other = platform.claim(f"{key}a", dead), platform.claim(f"{key}b", dead)
    platform.ci.intend(stuck, COMMIT)
    platform.store.root = platform.home.root / "gone"
    done = platform.reap()
    assert [i.run_id for i in done.interrupted] == [other.run_id]
    assert stuck.run_id in done.problems[0]


def test_two_reapers_at_once_end_everything_once(platform: Platform, key: str, dead: Owner) -> None:
    claim = platform.claim(key, dead)
    platform.stage(Stage.DEPLOY, claim)
    start = threading.Barrier(3)
    done: list[Reaped] = []

    def one() -> None:
        start.wait()
        done.append(platform.reap())

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    interrupted: list[Interrupted] = [i for d in done for i in d.interrupted]
    assert [i.run_id for i in interrupted] == [claim.run_id]
    assert platform.executor.cleaned == [claim.run_id]
    assert platform.processes_of(claim.run_id) == ()
    assert all(d.problems == () for d in done)


def test_a_reap_that_waits_too_long_for_another_says_so(platform: Platform) -> None:
    with FileLock(platform.home.root / "reap.lock"), pytest.raises(MlccError, match="another reap"):
        platform.reap(wait_seconds=0.05)
