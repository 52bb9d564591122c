"""The brakes: pauses, limits and draining take effect as rows, each with its record and event."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from runbook_lib.database import Database
from runbook_lib.errors import NotFoundError, UsageError
from runbook_lib.pipeline import brakes
from runbook_lib.pipeline.moments import length_of_time, moment
from runbook_lib.pipeline.permits import Permits, end_expired_pauses

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def allowed(database: Database, stage: str) -> int:
    """How many jobs a worker's turn may begin now."""
    with database.transaction() as transaction:
        end_expired_pauses(transaction)
        return Permits(transaction, "w-1", trial_seconds=60).allowed(stage)


def actions(database: Database) -> list[Any]:
    with database.transaction() as transaction:
        return transaction.rows("SELECT * FROM admin_actions ORDER BY acted_at")


def events(database: Database) -> list[Any]:
    with database.transaction() as transaction:
        return transaction.rows("SELECT * FROM events ORDER BY event_id")


def add_worker(
    database: Database, name: str, heartbeat: str = "now()", stopped: bool = False
) -> None:
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO workers (worker, host, pid, version, concurrency, prefetch, in_flight, heartbeat_at, stopped_at) "
            f"VALUES (%(name)s, 'h', 1, '0', 4, 0, 2, {heartbeat}, CASE WHEN %(stopped)s THEN now() END)",
            name=name,
            stopped=stopped,
        )


def test_a_pause_holds_every_worker_in_its_next_turn_until_it_is_resumed(
    database: Database,
) -> None:
    assert allowed(database, "write") > 0
    (paused,) = brakes.pause(database, ["openai"], actor="ana", reason="The bill looks odd")
    assert (paused.until, paused.paused_by, paused.automatic) == (None, "ana", False)
    assert allowed(database, "write") == 0
    assert allowed(database, "publish") > 0
    assert [each.reason for each in brakes.resume(database, ["openai"], actor="bo")] == [
        "The bill looks odd"
    ]
    assert allowed(database, "write") > 0
    assert brakes.resume(database, ["openai"], actor="bo") == []


def test_a_pause_with_an_end_ends_by_itself(database: Database) -> None:
    brakes.pause(
        database,
        ["openai"],
        actor="ana",
        reason="Lunch",
        until=datetime.now(UTC) + timedelta(hours=1),
    )
    assert allowed(database, "write") == 0
    with database.transaction() as transaction:
        transaction.run("UPDATE provider_pauses SET until = now() - interval '1 second'")
    assert allowed(database, "write") > 0


def test_a_persons_pause_replaces_an_automatic_one(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO provider_pauses (provider, until, reason, error_class, paused_by, automatic, times) "
            "VALUES ('openai', now() - interval '1 minute', 'quota', 'openai_quota_exhausted', 'w-1', true, 4)"
        )
    assert allowed(database, "write") == 1  # the trial
    (paused,) = brakes.pause(database, ["openai"], actor="ana", reason="Until the card is renewed")
    assert (paused.automatic, paused.error_class, paused.until) == (False, None, None)
    assert allowed(database, "write") == 0


def test_jobs_that_a_provider_had_put_off_are_due_once_somebody_resumes_it(
    database: Database,
) -> None:
    def put_off(topic: str, error_class: str | None) -> None:
        with database.transaction() as transaction:
            transaction.run(
                "INSERT INTO content_jobs (topic, run_at, error_class) VALUES (%(topic)s, now() + interval '10 minutes', %(error_class)s)",
                topic=topic, error_class=error_class,
            )  # fmt: skip

    for topic, error_class in (
        ("asked to wait", "wordpress_rate_limited"), ("was off", "wordpress_rest_off"), ("planned", None),
        ("of another", "openai_quota_exhausted"), ("passing", "wordpress_timeout"),
    ):  # fmt: skip
        put_off(topic, error_class)
    brakes.pause(database, ["wordpress"], actor="ana", reason="maintenance")
    brakes.resume(database, ["wordpress"], actor="ana")
    with database.transaction(read_only=True) as transaction:
        due = transaction.rows("SELECT topic FROM content_jobs WHERE run_at IS NULL ORDER BY topic")
        told = transaction.value("SELECT message FROM events WHERE kind = 'provider_resumed'")
    assert [row.topic for row in due] == ["asked to wait", "was off"]
    assert told.endswith("2 jobs that it had put off are due.")


def test_each_brake_leaves_an_action_with_before_and_after_and_an_event(database: Database) -> None:
    brakes.pause(
        database, ["openai", "wordpress"], actor="ana", reason="key sk-proj-abcdefgh12345678"
    )
    brakes.resume(database, ["wordpress"], actor="bo", reason="it is back")
    brakes.set_limits(database, "openai", {"concurrency": 3}, actor="cy")
    paused, resumed, limited = actions(database)
    assert (paused.actor, paused.action, paused.outcome, paused.before) == (
        "ana",
        "pause",
        "done",
        {},
    )
    assert set(paused.after) == {"openai", "wordpress"}
    assert set(resumed.after) == {"openai"}
    assert (limited.before["concurrency"], limited.after["concurrency"]) == (None, 3)
    assert [(event.kind, event.provider) for event in events(database)] == [
        ("provider_paused", "openai"),
        ("provider_paused", "wordpress"),
        ("provider_resumed", "wordpress"),
        ("limits_changed", "openai"),
    ]
    with database.transaction() as transaction:
        kept = transaction.value("SELECT string_agg(p::text, '') FROM provider_pauses p")
    assert "abcdefgh" not in kept + str(actions(database)) + str(events(database))


def test_a_pause_that_is_over_or_without_a_reason_is_refused_and_recorded(
    database: Database,
) -> None:
    with pytest.raises(UsageError, match="is over already"):
        brakes.pause(
            database, ["openai"], actor="ana", reason="x", until=datetime(2020, 1, 1, tzinfo=UTC)
        )
    assert [row.outcome for row in actions(database)] == ["refused"]
    with pytest.raises(UsageError, match="Say why"):
        brakes.pause(database, ["openai"], actor="ana", reason=" ")
    assert allowed(database, "write") > 0


def test_limits_are_set_one_by_one_and_taken_away_with_none(database: Database) -> None:
    brakes.set_limits(
        database, "openai", {"requests_per_minute": 120, "concurrency": 7}, actor="ana"
    )
    state = brakes.set_limits(
        database, "openai", {"daily_cost_usd": Decimal("4.50"), "concurrency": None}, actor="ana"
    )
    assert (state.requests_per_minute, state.concurrency, state.daily_cost_usd) == (
        120,
        None,
        Decimal("4.50"),
    )
    assert allowed(database, "write") == 12  # the burst of a full bucket


def test_a_new_rate_starts_with_a_fresh_bucket(database: Database) -> None:
    brakes.set_limits(database, "openai", {"requests_per_minute": 10}, actor="ana")
    with database.transaction() as transaction:
        transaction.run("UPDATE provider_limits SET bucket_requests = 0, bucket_filled_at = now()")
    assert allowed(database, "write") == 0
    brakes.set_limits(database, "openai", {"daily_tokens": 1_000_000}, actor="ana")
    assert allowed(database, "write") == 0
    brakes.set_limits(database, "openai", {"requests_per_minute": 600}, actor="ana")
    assert allowed(database, "write") == 60


def test_raising_a_daily_cap_ends_the_pause_that_it_caused(database: Database) -> None:
    brakes.set_limits(database, "openai", {"daily_cost_usd": Decimal(1)}, actor="ana")
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO provider_usage (provider, usage_date, cost_usd) "
            "VALUES ('openai', (now() AT TIME ZONE 'UTC')::date, 1.2)"
        )
    assert allowed(database, "write") == 0
    state = brakes.set_limits(database, "openai", {"daily_cost_usd": Decimal("1.1")}, actor="ana")
    assert state.pause is not None  # 1.2 are spent: this cap is met as well
    assert allowed(database, "write") == 0
    brakes.set_limits(database, "openai", {"daily_cost_usd": Decimal(5)}, actor="ana")
    assert allowed(database, "write") > 0


@pytest.mark.parametrize(
    ("provider", "limits", "words"),
    [
        ("bing", {"concurrency": 1}, "no provider 'bing'"),
        ("openai", {}, "Say which limit"),
        ("openai", {"speed": 1}, "no limit 'speed'"),
        ("openai", {"concurrency": 0}, "to stop, use `runbook pause`"),
        ("wordpress", {"daily_cost_usd": 1}, "WordPress costs nothing"),
    ],
)
def test_a_limit_that_does_not_fit_is_refused(
    database: Database, provider: str, limits: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        brakes.set_limits(database, provider, limits, actor="ana")


def test_workers_are_listed_with_state_and_ages(database: Database) -> None:
    add_worker(database, "w-1")
    add_worker(database, "w-2", "now() - interval '5 minutes'")
    add_worker(database, "w-3", stopped=True)
    found = {row["worker"]: row for row in brakes.list_workers(database)}
    assert {name: row["state"] for name, row in found.items()} == {
        "w-1": "running", "w-2": "silent", "w-3": "stopped",
    }  # fmt: skip
    assert 300 <= found["w-2"]["heartbeat_age_seconds"] < 360
    assert found["w-1"]["in_flight"] == 2


def test_a_worker_that_is_asked_to_drain_sees_it_in_its_next_turn(database: Database) -> None:
    add_worker(database, "w-1")
    add_worker(database, "w-10")
    brakes.drain_worker(database, "w-1", actor="ana", reason="new version")
    with database.transaction() as transaction:
        assert Permits(transaction, "w-1", trial_seconds=60).drain
        assert not Permits(transaction, "w-10", trial_seconds=60).drain
    assert [(row.action, row.outcome, row.target) for row in actions(database)] == [
        ("workers.drain", "done", "w-1")
    ]
    with pytest.raises(NotFoundError, match="fitting: w-1, w-10"):
        brakes.drain_worker(database, "w", actor="ana")
    with pytest.raises(NotFoundError, match="fitting: none"):
        brakes.drain_worker(database, "x", actor="ana")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("1.5h", 5400), ("3d", 259_200)],
)
def test_lengths_of_time_are_read_as_people_write_them(text: str, seconds: int) -> None:
    assert length_of_time(text) == timedelta(seconds=seconds)
    assert moment(text, NOW) == NOW - timedelta(seconds=seconds)
    assert moment(text, NOW, direction=1) == NOW + timedelta(seconds=seconds)


def test_moments_without_a_zone_are_utc() -> None:
    assert moment("2026-11-24T10:00", NOW) == datetime(2026, 11, 24, 10, tzinfo=UTC)
    assert moment("2026-11-24T10:00+02:00", NOW) == datetime(2026, 11, 24, 8, tzinfo=UTC)
    for wrong in ("", "soon", "10", "h", "99999999w", "0001-01-01T00:00+23:59"):
        with pytest.raises(UsageError):
            moment(wrong, NOW)


def test_the_commands_as_processes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database.url)
    add_worker(database, "w-1")

    def runbook(*arguments: str) -> tuple[int, str]:
        ended = subprocess.run(
            [sys.executable, "-m", "runbook_lib.cli", *arguments],
            text=True,
            capture_output=True,
            check=False,
        )
        return ended.returncode, ended.stdout + ended.stderr

    assert runbook("pause", "openai")[0] == 2
    status, output = runbook("pause", "all", "--reason", "audit", "--for", "2h", "--actor", "ana")
    assert status == 0
    assert output.count("is paused until") == 2
    assert allowed(database, "write") == allowed(database, "publish") == 0
    status, output = runbook("limits", "set", "openai", "--daily-cost-usd", "2.5", "--json")
    assert status == 0
    assert json.loads(output)[0]["pause"]["reason"] == "audit"
    status, output = runbook("limits", "show")
    assert "0.0000 of 2.50" in output
    assert "audit" in output
    assert runbook("limits", "set", "openai", "--concurrency", "many")[0] == 2
    status, output = runbook("resume", "all", "--json")
    assert [each["provider"] for each in json.loads(output)] == ["openai", "wordpress"]
    assert runbook("limits", "set", "openai", "--none")[0] == 0
    assert brakes.provider_states(database)[0].daily_cost_usd is None
    status, output = runbook("workers")
    assert "2 of 4" in output
    assert runbook("workers", "drain", "w-1") == (0, "w-1 finishes its 2 jobs and ends then.\n")
