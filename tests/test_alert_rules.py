"""The rules of alerts: when one opens, is said, is raised, flaps and ends, whatever a check answers."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook_lib.health.alerts.decisions import Memory, PipelineEvent, decide, with_groups
from runbook_lib.health.alerts.records import alert_of, as_record, state_of
from runbook_lib.health.alerts.rules import Alert, Notice, acknowledged
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.policy import Alerting, MaintenanceWindow, Policy, QuietHours

START = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICY = Policy()
BAD = ("warning", "critical")
VERDICTS: list[Verdict] = ["ok", "warning", "critical", "not_allowed", "not_enough_data"]


class Watch:
    """A survey a minute over one check, with the memory that a monitor would keep."""

    def __init__(self, policy: Policy = POLICY, name: str = "queue.depth") -> None:
        self.policy, self.name = policy, name
        self.now = START
        self.memory = Memory()
        self.alerts: dict[str, Alert] = {}
        self.told: list[tuple[datetime, Notice]] = []

    def see(self, *verdicts: Verdict, step: timedelta = MINUTE) -> list[str]:
        """The kinds of notices that these answers lead to."""
        before = len(self.told)
        for verdict in verdicts:
            self._decide([Check(self.name, verdict, "words", value=1)])
            self.now += step
        return [notice.kind for _, notice in self.told[before:]]

    def hear(self, *events: PipelineEvent, paused: tuple[str, ...] | None = None) -> list[str]:
        before = len(self.told)
        self._decide([], events=events, paused=paused)
        self.now += MINUTE
        return [notice.kind for _, notice in self.told[before:]]

    def acknowledge(self) -> None:
        alerts = [
            acknowledged(each, "ada", None, self.now) if each.resolved_at is None else each
            for each in self.memory.alerts
        ]
        self.memory = replace(self.memory, alerts=tuple(alerts))

    @property
    def alert(self) -> Alert:
        return list(self.alerts.values())[-1]

    def _decide(self, checks: list[Check], **more: Any) -> None:
        decided = decide(self.memory, checks, self.now, self.policy, **more)
        self.alerts |= {alert.alert_id: alert for alert in decided.alerts}
        kept = {alert.alert_id: alert for alert in self.memory.alerts} | {
            alert.alert_id: alert for alert in decided.alerts
        }
        states = {**self.memory.states, **{state.check_name: state for state in decided.states}}
        self.memory = Memory(states, tuple(each for each in kept.values() if not each.settled))
        self.told += [(self.now, notice) for notice in decided.notices]


def test_one_bad_answer_is_not_told_and_two_a_minute_apart_are_told_once() -> None:
    watch = Watch()
    assert watch.see("ok", "critical", "ok", "ok", "ok") == []
    assert watch.see(*["critical"] * 20) == ["opened"]
    assert watch.alert.status == "repeated"
    assert watch.alert.seen_times == 19
    assert watch.alert.since == START + 5 * MINUTE


def test_surveys_in_quick_succession_do_not_make_a_short_trouble_long() -> None:
    watch = Watch()
    assert watch.see(*["critical"] * 30, step=timedelta(seconds=1)) == []


def test_recovery_is_told_after_a_while_of_good_answers() -> None:
    watch = Watch()
    watch.see(*["critical"] * 5)
    assert watch.see("ok", "not_enough_data", "ok") == []
    assert watch.see("ok") == ["resolved"]
    assert watch.alert.resolution == "recovered"
    assert watch.see(*["ok"] * 30) == []


def test_an_answer_that_proves_nothing_neither_opens_nor_ends() -> None:
    watch = Watch()
    assert watch.see(*["not_enough_data", "not_allowed"] * 10) == []
    assert watch.see("warning", "not_enough_data", "warning") == ["opened"]
    assert watch.see(*["not_enough_data"] * 20) == []
    assert watch.alert.resolved_at is None


def test_an_alert_that_nothing_confirms_for_a_day_ends_and_says_so() -> None:
    watch = Watch()
    watch.see("warning", "warning")
    kinds = watch.see(*["not_enough_data"] * 25, step=timedelta(hours=1))
    assert kinds.count("resolved") == 1
    assert watch.alert.resolution == "not_seen_again"


def test_a_warning_that_becomes_critical_is_told_again_once_and_ends_an_acknowledgement() -> None:
    watch = Watch()
    watch.see("warning", "warning")
    watch.acknowledge()
    assert watch.see("critical", "warning", "critical", "critical") == ["worsened"]
    assert watch.alert.acknowledged_at is None
    assert watch.alert.severity == "critical"


def test_nobody_acknowledges_so_the_levels_are_raised_to_the_third_and_then_reminded() -> None:
    watch = Watch()
    watch.see("critical", "critical")
    kinds = watch.see(*["critical"] * 600)
    assert kinds[:2] == ["raised", "raised"]
    assert set(kinds[2:]) == {"reminder"}
    assert len(kinds) <= 5
    raised = [at for at, notice in watch.told if notice.kind == "raised"]
    assert raised[1] - raised[0] == timedelta(minutes=30)
    assert watch.alert.level == 3


def test_an_acknowledged_alert_is_not_raised_until_its_acknowledgement_ends() -> None:
    watch = Watch()
    watch.see("critical", "critical")
    watch.acknowledge()
    assert watch.see(*["critical"] * 470) == []
    assert watch.see(*["critical"] * 20) == ["reminder"]
    assert watch.alert.acknowledged_at is None
    assert watch.see(*["ok"] * 5) == ["resolved"]


def test_a_flapping_check_is_said_to_flap_once_and_ends_when_it_keeps_still() -> None:
    watch = Watch()
    assert watch.see(*["critical", "ok"] * 15) == ["flapping"]
    watch.acknowledge()
    assert watch.see(*["critical", "ok"] * 30) == []
    assert watch.see(*["ok"] * 25) == []
    assert watch.see(*["ok"] * 10) == ["resolved"]


def test_an_open_alert_that_begins_to_flap_is_said_to_flap_and_not_to_recover() -> None:
    watch = Watch()
    watch.see("critical", "critical")
    kinds = watch.see(*["ok", "critical"] * 10)
    assert kinds == ["flapping"]
    assert watch.see(*["critical"] * 40)[0] == "raised"


def test_maintenance_holds_everything_back_and_what_is_still_bad_after_it_is_told() -> None:
    window = MaintenanceWindow(begin=START, end=START + 30 * MINUTE, reason="update")
    watch = Watch(Policy(maintenance_windows=(window,)))
    assert watch.see(*["critical"] * 10, *["ok"] * 10) == []
    assert watch.alert.announced_at is None
    assert watch.see(*["critical"] * 10) == []
    assert watch.see("critical") == ["opened"]


def test_quiet_hours_let_only_what_is_critical_through() -> None:
    hours = QuietHours(begin=time(22), end=time(7), timezone="Europe/Berlin")
    watch = Watch(Policy(quiet_hours=hours))
    watch.now = datetime(2026, 11, 2, 23, 0, tzinfo=UTC)
    assert watch.see(*["warning"] * 10) == []
    assert watch.see("critical", "critical") == ["opened"]
    watch.now = datetime(2026, 11, 3, 4, 0, tzinfo=UTC)
    assert watch.see(*["ok"] * 6) == ["resolved"]
    assert watch.see(*["warning"] * 4) == []
    watch.now = datetime(2026, 11, 3, 6, 0, tzinfo=UTC)
    assert watch.see("warning") == ["opened"]


def test_a_breach_goes_to_level_two_and_level_three_is_told() -> None:
    watch = Watch(name="security.strange_producer")
    watch.see("critical", "critical")
    assert (watch.alert.level, watch.alert.also_told) == (2, (3,))


def event(kind: str, level: Any = "warning", provider: str | None = None) -> PipelineEvent:
    return PipelineEvent(1, START, kind, level, "words", provider=provider)


def test_events_of_one_kind_are_one_alert_that_ends_in_silence() -> None:
    watch = Watch()
    assert watch.hear(*[event("lease_expired")] * 40) == ["opened"]
    assert watch.hear(event("lease_expired")) == []
    assert watch.alert.seen_times == 41
    watch.now += timedelta(minutes=61)
    assert watch.hear() == []
    assert watch.alert.resolution == "not_seen_again"


def test_a_pause_is_told_until_the_provider_is_resumed_and_a_short_one_not_at_all() -> None:
    watch = Watch()
    assert watch.hear(event("provider_paused", provider="openai"), paused=("openai",)) == []
    assert watch.hear(paused=()) == []
    critical = event("provider_paused", "critical", "openai")
    assert watch.hear(critical, paused=("openai",)) == ["opened"]
    watch.now += timedelta(minutes=20)
    assert watch.hear(paused=("openai",)) == []
    assert watch.hear(paused=()) == ["resolved"]


def test_an_event_that_a_check_tells_already_opens_no_second_alert() -> None:
    watch = Watch(name="queue.pauses")
    pause = event("provider_paused", "critical", "openai")
    for _ in range(3):
        watch._decide([Check("queue.pauses", "critical", "openai is paused")], events=[pause])
        watch.now += MINUTE
    assert [notice.alert.cause for _, notice in watch.told] == ["queue.pauses"]


# --- whatever comes ------------------------------------------------------------------------------

POLICIES = st.builds(
    Policy,
    alerting=st.builds(
        Alerting,
        bad_times=st.integers(1, 4),
        bad_minutes=st.floats(0, 5),
        good_minutes=st.floats(0, 10),
        flapping_changes=st.integers(3, 8),
    ),
    quiet_hours=st.sampled_from([QuietHours(), QuietHours(begin=time(12, 30), end=time(1))]),
    maintenance_windows=st.sampled_from(
        [
            (),
            (
                MaintenanceWindow(
                    begin=START + 20 * MINUTE, end=START + 60 * MINUTE, reason="update"
                ),
            ),
        ]
    ),
)
# Runs of equal answers, as real trouble has them, and single ones between.
ANSWERS = st.lists(
    st.tuples(st.sampled_from(VERDICTS), st.integers(1, 45)), min_size=1, max_size=12
).map(lambda runs: [verdict for verdict, times in runs for _ in range(times)])


@settings(max_examples=40, deadline=None)
@given(policy=POLICIES, answers=ANSWERS)
def test_of_each_alert_is_told_one_beginning_and_at_most_one_end(
    policy: Policy, answers: list[Verdict]
) -> None:
    watch = Watch(policy)
    watch.see(*answers)
    watch.now = datetime(2026, 11, 5, 2, 0, tzinfo=UTC)
    watch.see(*["ok"] * 90)  # type: ignore[arg-type]
    by_alert: dict[str, list[str]] = {}
    for _, notice in watch.told:
        by_alert.setdefault(notice.alert.alert_id, []).append(notice.kind)
    for kinds in by_alert.values():
        assert kinds[0] in ("opened", "flapping")
        assert kinds[-1] == "resolved"
        assert kinds.count("opened") + (kinds[0] == "flapping") == 1
        for once in ("resolved", "flapping", "worsened"):
            assert kinds.count(once) <= 1
        assert kinds.count("raised") <= 2
    assert all(alert.resolved_at for alert in watch.alerts.values()), "an alert stays for ever"
    assert set(watch.alerts) - set(by_alert) == {
        alert.alert_id for alert in watch.alerts.values() if alert.announced_at is None
    }


@settings(max_examples=40, deadline=None)
@given(policy=POLICIES, answers=ANSWERS)
def test_nothing_is_told_without_enough_bad_answers_or_in_maintenance(
    policy: Policy, answers: list[Verdict]
) -> None:
    watch = Watch(policy)
    watch.see(*answers)
    for at, notice in watch.told:
        assert not any(window.begin <= at < window.end for window in policy.maintenance_windows)
        if notice.kind == "opened":
            minutes = int((at - START) / MINUTE)
            seen = [each for each in answers[: minutes + 1] if each in BAD]
            assert len(seen) >= policy.alerting.bad_times
    if not set(answers) & set(BAD):
        assert watch.told == []


@settings(max_examples=25, deadline=None)
@given(policy=POLICIES, answers=ANSWERS, cut=st.integers(0, 200))
def test_a_memory_that_went_through_json_decides_the_same(
    policy: Policy, answers: list[Verdict], cut: int
) -> None:
    straight, broken = Watch(policy), Watch(policy)
    straight.see(*answers)
    broken.see(*answers[:cut])
    memory = broken.memory
    broken.memory = Memory(
        {name: state_of(json.loads(json.dumps(as_record(each)))) for name, each in memory.states.items()},
        tuple(alert_of(json.loads(json.dumps(as_record(each)))) for each in memory.alerts),
    )  # fmt: skip
    assert broken.memory == memory
    broken.see(*answers[cut:])
    assert [(at, each.kind) for at, each in broken.told] == [
        (at, each.kind) for at, each in straight.told
    ]


def test_checks_that_look_at_one_thing_from_several_sides_are_one_alert() -> None:
    memory, told = Memory(), []
    for minute in range(3):
        bad = [
            Check(f"failures.{name}", "critical", f"{name} is bad") for name in ("now", "in_a_row")
        ]
        checks = with_groups([Check("failures.jobs_of_day", "not_enough_data", "few"), *bad])
        decided = decide(memory, checks, START + minute * MINUTE, POLICY)
        memory = Memory({each.check_name: each for each in decided.states}, decided.alerts)
        told += decided.notices
    assert [notice.alert.cause for notice in told] == ["failures"]
    assert told[0].alert.evidence["message"] == "now is bad Also bad: failures.in_a_row."
    assert {"failures", "failures.now", "failures.jobs_of_day"} <= set(memory.states)


@pytest.mark.parametrize("count", [1, 3, 10])
def test_several_checks_are_judged_apart(count: int) -> None:
    memory = Memory()
    told = []
    for minute in range(3):
        checks = [Check(f"part.{number}", "critical", "words") for number in range(count)]
        decided = decide(memory, checks, START + minute * MINUTE, POLICY)
        memory = Memory({each.check_name: each for each in decided.states}, decided.alerts)
        told += decided.notices
    assert sorted(notice.alert.cause for notice in told) == [check.name for check in checks]
