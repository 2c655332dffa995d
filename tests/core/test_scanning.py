"""What is due for another test: by table, and against an independent count of the same rules."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlcc_dagster.core.records import utc_text
from mlcc_dagster.core.scanning import STALE_AFTER_SECONDS, Due, LeftOut, Omission, Reason, Scan, Scanned, scan

NOW = datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
DAY, WEEK = timedelta(days=1), timedelta(days=7)
LIMITS = {"ci": 86_400.0, "nightly": 86_400.0, "weekly": 604_800.0, "local": 86_400.0}
SECOND = timedelta(seconds=1)

FAILURES = [
    *(
        f"fail-{stage}"
        for stage in (
            "generate",
            "validate",
            "build",
            "push",
            "deploy",
            "test",
            "tune-sft",
            "tune-dpo",
            "tune-rlaif",
            "tune-rlvr",
            "adapter-add",
            "test-adapter",
            "stage",
            "register",
            "clean",
            "update",
        )
    ),
    *(f"fail-{older}" for older in ("deploy_test", "teardown", "adapter_test", "unknown")),
]


def record(key: str = "a", status: str = "pass", **values: object) -> Scanned:
    """A record that was registered ten days ago and tested two days ago."""
    made: dict[str, object] = {"registered_at": NOW - 10 * DAY, "last_test": NOW - 2 * DAY, "tier": "ci"}
    return Scanned(key, status, **(made | values))  # type: ignore[arg-type]


def running(key: str = "a", **values: object) -> Scanned:
    """A record that somebody runs now, whose test before it is two days old."""
    made: dict[str, object] = {
        "status_before": "pass",
        "lease_until": NOW + 60 * SECOND,
        "owner": "host:1",
        "owner_alive": True,
    }
    return record(key, "running", **(made | values))


def look(*records: Scanned, room: int = 1_000, in_flight: int = 0, now: datetime = NOW) -> Scan:
    return scan(records, now=now, stale_after_seconds=LIMITS, max_concurrency=room, in_flight=in_flight)


@pytest.mark.parametrize("status", ["pass", *FAILURES])
def test_every_status_comes_back_when_its_test_is_older_than_its_limit_and_not_before(status: str) -> None:
    tested = NOW - DAY
    (due,) = look(record(status=status, last_test=tested - SECOND)).start
    assert (due.reason, due.since) == (Reason.STALE, tested - SECOND + DAY)
    for fresh in (tested, tested + SECOND, NOW):
        (left,) = look(record(status=status, last_test=fresh)).left_out
        assert left.omission is Omission.FRESH
        assert left.detail == f"{status}, tested at {utc_text(fresh)}, due at {utc_text(fresh + DAY)}"


@pytest.mark.parametrize(
    ("tier", "limit"),
    [
        pytest.param("ci", DAY, id="daily"),
        pytest.param("weekly", WEEK, id="the weekly tier has a week"),
        pytest.param(None, DAY, id="of no tier"),
        pytest.param("gone", DAY, id="of a tier that the catalog does not know any more"),
    ],
)
def test_the_limit_is_the_tiers_and_a_day_without_one(tier: str | None, limit: timedelta) -> None:
    assert timedelta(seconds=STALE_AFTER_SECONDS) == DAY
    assert look(record(tier=tier, last_test=NOW - limit - SECOND)).start
    assert not look(record(tier=tier, last_test=NOW - limit)).start


@pytest.mark.parametrize(
    ("each", "reason", "since"),
    [
        pytest.param(
            record(status="untested", last_test=None), Reason.UNTESTED, NOW - 10 * DAY, id="never tested: at once"
        ),
        pytest.param(
            record(status="untested", last_test=NOW - SECOND),
            Reason.UNTESTED,
            NOW - SECOND,
            id="registered anew, however fresh its test",
        ),
        pytest.param(
            record(status="fail-deploy", last_test=None), Reason.STALE, NOW - 10 * DAY, id="failed, nobody knows when"
        ),
        pytest.param(
            record(last_test=NOW + 90 * DAY), Reason.STALE, NOW + 90 * DAY, id="a clock was wrong: no time of a test"
        ),
        pytest.param(
            running(lease_until=NOW), Reason.LEASE_OVER, NOW - DAY, id="its lease is over: due as it was before the run"
        ),
        pytest.param(
            running(lease_until=NOW - SECOND, last_test=NOW - SECOND * 2),
            Reason.LEASE_OVER,
            NOW - SECOND,
            id="its lease is over and its test fresh: cut off, so it comes back",
        ),
        pytest.param(
            running(lease_until=NOW - SECOND, owner_alive=None), Reason.LEASE_OVER, NOW - DAY, id="on another host"
        ),
        pytest.param(
            running(owner_alive=False), Reason.OWNER_DEAD, NOW - DAY, id="its lease lives, its owner does not"
        ),
        pytest.param(
            running(status_before=None, last_test=None, owner_alive=False),
            Reason.OWNER_DEAD,
            NOW - 10 * DAY,
            id="its first test was cut off",
        ),
        pytest.param(
            running(lease_until=None, owner=None, owner_alive=None, last_test=NOW),
            Reason.LEASE_OVER,
            NOW,
            id="an old record that says running, and nobody runs it",
        ),
    ],
)
def test_what_is_due_says_why_and_since_when(each: Scanned, reason: Reason, since: datetime) -> None:
    found = look(each)
    (due,) = found.start
    assert (due.config_id, due.reason, due.since, found.left_out) == ("a", reason, since, ())
    assert due.round == f"scan@{utc_text(since)}"
    assert due.detail


@pytest.mark.parametrize(
    ("each", "omission", "said"),
    [
        pytest.param(running(), Omission.RUNNING, "runs at host:1, lease until", id="a live lease"),
        pytest.param(running(owner_alive=None), Omission.RUNNING, "runs at host:1", id="a live lease of another host"),
        pytest.param(
            running(committing=True, lease_until=NOW - DAY), Omission.COMMITTING, "mlcc reap", id="it has a result"
        ),
        pytest.param(
            record(refusal="needs a GPU instance"), Omission.NOT_RUNNABLE, "needs a GPU instance", id="cannot run here"
        ),
        pytest.param(record(requested="asked for"), Omission.REQUESTED, "asked for", id="is asked for already"),
        pytest.param(
            record(status="untested", last_test=NOW - SECOND, tested_nothing=True),
            Omission.FRESH,
            "tested nothing",
            id="stays untested whatever is run: once in its limit, not with every scan",
        ),
        pytest.param(
            record(last_test=NOW - SECOND, refusal="needs a GPU instance"),
            Omission.FRESH,
            "due at",
            id="not due comes before not runnable",
        ),
        pytest.param(record(last_test=NOW + 60 * SECOND), Omission.FRESH, "due at", id="clocks differ by a minute"),
    ],
)
def test_what_is_left_out_says_why(each: Scanned, omission: Omission, said: str) -> None:
    found = look(each)
    assert found.start == ()
    (left,) = found.left_out
    assert left.omission is omission
    assert said in left.detail


def test_first_comes_what_was_never_tested_by_registration_then_the_oldest_test_whatever_its_limit() -> None:
    records = [
        record("stale", last_test=NOW - 3 * DAY),
        record("weekly", last_test=NOW - 8 * DAY, tier="weekly"),
        record("new", "untested", last_test=None, registered_at=NOW - SECOND),
        record("cut off", "running", status_before="pass", lease_until=NOW - SECOND, last_test=NOW - 5 * DAY),
        record("older", "untested", last_test=None),
        record("failed", "fail-test", last_test=NOW - 4 * DAY),
    ]
    wanted = ["older", "new", "weekly", "cut off", "failed", "stale"]
    assert [due.config_id for due in look(*records).start] == wanted
    assert [due.config_id for due in look(*reversed(records)).start] == wanted
    first = look(*records, room=4, in_flight=2)
    assert [due.config_id for due in first.start] == wanted[:2]
    assert list(first.waiting) == wanted[2:]
    assert first.sentence == "2 to start; left out: 4 no room"
    assert "2 of 4 run already" in first.left_out[0].detail


def test_an_occasion_is_the_same_before_and_after_somebody_cleaned_up_after_a_dead_owner() -> None:
    (seen,) = look(running(lease_until=NOW - SECOND)).start
    (cleaned,) = look(record(status="pass")).start
    assert seen.round == cleaned.round


def test_the_next_occasion_is_another_one_once_it_was_tested() -> None:
    (first,) = look(record(status="untested", last_test=None)).start
    tested = NOW + 60 * SECOND
    later = tested + DAY + SECOND
    (second,) = look(record(status="fail-build", last_test=tested), now=later).start
    (anew,) = look(record(status="untested", last_test=tested), now=later).start
    assert len({first.round, second.round, anew.round}) == 3


def test_a_scan_as_json_names_round_and_reason() -> None:
    due, left = look(record()).start[0].to_json(), look(running()).left_out[0].to_json()
    assert due == {
        "config_id": "a",
        "tier": "ci",
        "reason": "stale",
        "due_since": utc_text(NOW - DAY),
        "round": f"scan@{utc_text(NOW - DAY)}",
        "detail": f"pass, tested at {utc_text(NOW - 2 * DAY)}",
    }
    assert (left["config_id"], left["reason"]) == ("a", "running")


# ---- against an independent count

MOMENTS = st.integers(-1_300_000, 250).map(lambda seconds: NOW + timedelta(seconds=seconds))


@st.composite
def scanned(draw: st.DrawFn, key: str) -> Scanned:
    status = draw(st.sampled_from(["untested", "running", "pass", *FAILURES]))
    leased = status == "running"
    return Scanned(
        config_id=key,
        test_status=status,
        registered_at=draw(MOMENTS),
        last_test=draw(st.none() | MOMENTS),
        tier=draw(st.sampled_from([None, "gone", *LIMITS])),
        status_before=draw(st.sampled_from(["untested", "pass", *FAILURES])),
        lease_until=draw(st.none() | st.integers(-200, 200).map(lambda s: NOW + timedelta(seconds=s)))
        if leased
        else None,
        owner="host:1" if leased else None,
        owner_alive=draw(st.sampled_from([None, True, False])) if leased else None,
        committing=leased and draw(st.integers(0, 4)) == 0,
        refusal=draw(st.sampled_from([None, None, "needs a GPU instance"])),
        requested=draw(st.sampled_from([None, None, "asked for"])),
    )


TABLES = st.integers(0, 12).flatmap(lambda size: st.tuples(*(scanned(f"{n:02}") for n in range(size))))


def must_come_back(each: Scanned) -> bool:
    """The rule as the specification words it, without order and sentences."""
    if each.refusal or each.requested:
        return False
    if each.test_status == "running":
        live = each.lease_until is not None and each.lease_until > NOW and each.owner_alive is not False
        return not live and not each.committing
    if each.test_status == "untested" or each.last_test is None:
        return True
    return (NOW - each.last_test).total_seconds() > (604_800 if each.tier == "weekly" else 86_400)


@given(TABLES, st.integers(0, 14), st.integers(0, 5))
def test_every_record_is_started_or_left_out_and_exactly_the_due_ones_in_order(
    records: tuple[Scanned, ...], room: int, in_flight: int
) -> None:
    found = look(*records, room=room, in_flight=in_flight)
    named = [*(due.config_id for due in found.start), *(left.config_id for left in found.left_out)]
    assert sorted(named) == [each.config_id for each in records], "each once"
    due = {each.config_id for each in records if must_come_back(each)}
    assert {*(each.config_id for each in found.start), *found.waiting} == due
    assert len(found.start) == min(len(due), max(0, room - in_flight))
    whole = [each.config_id for each in look(*records, room=len(records) + in_flight, in_flight=in_flight).start]
    assert [*(each.config_id for each in found.start), *found.waiting] == whole, (
        "room cuts the order, and changes nothing"
    )
    assert all(isinstance(each, Due) for each in found.start)
    assert all(isinstance(each, LeftOut) and each.detail for each in found.left_out)


@given(TABLES, st.randoms())
def test_everybody_who_looks_sees_the_same_order(records: tuple[Scanned, ...], chance: object) -> None:
    shuffled = list(records)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert look(*shuffled, room=3).start == look(*records, room=3).start


@given(TABLES)
def test_what_is_started_is_not_due_again_once_its_run_has_ended(records: tuple[Scanned, ...]) -> None:
    started = {due.config_id for due in look(*records).start}
    after = [
        Scanned(each.config_id, "fail-test", each.registered_at, last_test=NOW, tier=each.tier)
        if each.config_id in started
        else each
        for each in records
    ]
    assert look(*after).start == ()
