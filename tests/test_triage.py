"""Triage: silent on a healthy system, right on faults that are staged for real, honest about the rest."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import psycopg2
import pytest
from fault_server import refused_port
from pydantic import SecretStr
from running_sandbox import RunningSandbox

from runbook_lib import changes
from runbook_lib.changes.catalogue import KIND_MODULES
from runbook_lib.database import Database
from runbook_lib.database.expected_schema import FILE as EXPECTED_SCHEMA
from runbook_lib.database.statements import load
from runbook_lib.health.context import open_context
from runbook_lib.pipeline.failures import FAILURE_CLASSES
from runbook_lib.policy import Policy
from runbook_lib.procedures.catalogue import names
from runbook_lib.procedures.first_action import propose_first_action
from runbook_lib.procedures.workplace import Workplace
from runbook_lib.rehearsal.scene import QUICK, Scene
from runbook_lib.sandbox.proxy import NetworkProxy
from runbook_lib.settings import Settings
from runbook_lib.triage.attempts import Attempts
from runbook_lib.triage.causes import BY_ID, CAUSES
from runbook_lib.triage.content_facts import content_facts
from runbook_lib.triage.database_facts import database_facts
from runbook_lib.triage.diagnosis import LOOK_ON, Diagnosis, assess, diagnose_context
from runbook_lib.triage.evidence import OWN_TABLES, Evidence, ask
from runbook_lib.triage.facts import LAYERS, Fact, Facts
from runbook_lib.triage.failure_facts import failure_facts
from runbook_lib.triage.fleet_facts import fleet_facts
from runbook_lib.triage.judgement import Found, Judgement, fit, judge
from runbook_lib.triage.kept_evidence import differences, keep, read
from runbook_lib.triage.lock_facts import LONG_LOCK_SECONDS, TABLE_LOCK_SECONDS
from runbook_lib.triage.queue_facts import queue_facts
from runbook_lib.triage.worker_facts import worker_facts

NOW = datetime(2026, 5, 20, 12, tzinfo=UTC)


@pytest.fixture
def scene(database: Database, running_sandbox: RunningSandbox, home: Path) -> Scene:
    settings = Settings(
        database_url=database.url, runbook_home=home,
        openai_api_key=running_sandbox.api_key, openai_base_url=f"{running_sandbox.url}/v1",
        wordpress_url=running_sandbox.url, wordpress_user=running_sandbox.user, wordpress_app_password=running_sandbox.app_password,
        **QUICK,
    )  # fmt: skip
    running_sandbox.control.ensure_categories(["News", "Guides"])
    return Scene(database, settings, running_sandbox.control)


def look(scene: Scene, database_url: str | None = None) -> Diagnosis:
    moved = {} if database_url is None else {"database_url": SecretStr(database_url)}
    given = scene.settings.model_copy(update=moved)
    with open_context(given, require_schema=False) as context:
        return diagnose_context(context)


def named(found: Diagnosis) -> list[str]:
    return [each.cause.id for each in found.causes]


# what is staged for real


def test_a_system_that_works_is_healthy_and_says_so_within_five_seconds(scene: Scene) -> None:
    scene.past()
    scene.add(4)
    with scene.working():
        scene.until(lambda: scene.counts().completed == 64, "all are published")
        found = look(scene)
    assert (found.verdict, found.layer, named(found)) == ("healthy", None, []), found.judgement
    assert found.check.verdict == "ok"
    assert {state for _, state, _ in found.layers()} <= {"works", "not known"}


@pytest.mark.parametrize(
    ("provider", "kind", "error_class", "cause", "automation"),
    [
        ("openai", "quota", "openai_quota_exhausted", "openai-quota-exhausted", "Y"),
        ("wordpress", "login_revoked", "wordpress_login_failed", "wordpress-login-revoked", "Y"),
    ],
)
def test_a_provider_that_refuses_is_named_with_evidence_and_a_safe_action(
    scene: Scene, provider: str, kind: str, error_class: str, cause: str, automation: str
) -> None:
    scene.past()
    scene.control.set_fault(provider, kind)
    scene.add(4)
    with scene.working():
        scene.until(lambda: scene.failed_as(error_class) >= 1, "an attempt failed")
        found = look(scene)
    assert (found.verdict, named(found)) == ("fault", [cause])
    told = json.loads(json.dumps(found.as_dictionary(), default=str))
    (first,) = told["causes"]
    assert first["safe_to_automate"] == automation
    assert first["command"].startswith(f"runbook pause {provider}")
    assert len({line.get("statement") or line.get("probe") for line in first["evidence"]}) >= 2
    assert told.keys() >= {"verdict", "causes", "not_checked", "seconds"}
    (waits,) = told["waiting"]
    assert waits.startswith(f"{provider} is paused since ")
    assert waits.endswith(f"runbook resume {provider}")
    assert "one job tries again at" in waits
    assert waits in found._repr_html_()
    # Nothing of the prompts, bodies and keys that travelled stands in the answer.
    assert "Roses in the garden" not in json.dumps(told)


def test_a_site_that_is_down_is_named_before_a_job_meets_it_and_only_if_readers_see_it_too(
    scene: Scene,
) -> None:
    scene.past()
    number = scene.control.set_fault("wordpress", "maintenance")
    found = look(scene)
    assert named(found) == ["wordpress-down"]
    assert {fact.source for fact in found.causes[0].evidence} >= {"GET /"}
    scene.control.clear_faults(fault_id=number)
    scene.control.set_fault("wordpress", "status", status=500, path="wp-json")
    one_route = look(scene)
    assert one_route.facts.holds("wordpress.server_errors_now")
    assert one_route.facts.holds("wordpress.front_page_down") is False
    assert named(one_route) == []


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("login_revoked", "wordpress-login-revoked"),
        ("permission_lost", "wordpress-permission-lost"),
        ("no_rest_api", "wordpress-rest-off"),
        ("redirect", "wordpress-url-redirects"),
        ("maintenance", "wordpress-down"),
    ],
)
def test_what_is_wrong_with_the_site_is_seen_though_no_job_gets_so_far(
    scene: Scene, kind: str, cause: str
) -> None:
    scene.past()
    scene.control.set_fault("openai", "quota")
    scene.control.set_fault("wordpress", kind)
    scene.add(4)
    with scene.working():
        scene.until(lambda: scene.failed_as("openai_quota_exhausted") >= 1, "an attempt failed")
        found = look(scene)
    assert {*named(found)} == {"openai-quota-exhausted", cause}


def test_a_site_that_asks_for_fewer_requests_is_not_down(scene: Scene) -> None:
    scene.past()
    scene.control.set_fault("wordpress", "status", status=429, body="html")
    scene.add(4)
    with scene.working():
        scene.until(lambda: scene.failures() >= 1, "an attempt failed")
        found = look(scene)
    assert (found.verdict, found.layer, named(found)) == ("unknown", "publish", [])
    assert found.facts.holds("wordpress.asks_for_less")


def test_every_cited_figure_comes_out_of_the_kept_evidence_again(
    scene: Scene, tmp_path: Path
) -> None:
    scene.past()
    scene.control.set_fault("openai", "quota")
    scene.add(4)
    with scene.working():
        scene.until(lambda: scene.failed_as("openai_quota_exhausted") >= 1, "an attempt failed")
        found = look(scene)
    file = tmp_path / "evidence.json"
    keep(found, file)
    answer, evidence = read(file)
    assert answer["causes"][0]["id"] == "openai-quota-exhausted"
    assert differences(answer, assess(evidence, Policy())) == []
    # And it is the evidence that tells: another figure in a row is another figure in the answer.
    file.write_text(
        file.read_text("utf-8").replace('"openai_quota_exhausted"', '"openai_key_invalid"')
    )
    answer, evidence = read(file)
    assert differences(answer, assess(evidence, Policy()))
    # A statement that is cited can be asked again by itself.
    cited = {
        line["statement"]
        for line in found.as_dictionary()["causes"][0]["evidence"]
        if "statement" in line
    }
    for name in cited:
        sql, _, title = name.partition(".")
        asked = ask(load(sql)[title], scene.settings)
        assert asked.rows, name
        assert "WITH" in asked.text.upper() or "FROM" in asked.text.upper()


def test_a_database_that_is_down_is_named_and_not_a_thing_is_changed(scene: Scene) -> None:
    found = look(scene, database_url=f"postgresql://nobody:secret@127.0.0.1:{refused_port()}/none")
    assert (found.verdict, named(found)) == ("fault", ["database-down"])
    assert found.check.verdict == "critical"
    assert found.first is not None
    assert found.first.cause.action.command == "runbook doctor"
    assert "secret" not in json.dumps(found.as_dictionary(), default=str)


def test_a_database_that_takes_connections_and_is_silent_hangs(scene: Scene) -> None:
    address = urlsplit(scene.database.url)
    with NetworkProxy(address.hostname or "", address.port or 0) as proxy:
        proxy.set_fault("stall")
        url = scene.database.url.replace(f":{address.port}/", f":{proxy.port}/")
        found = look(scene, database_url=url)
    assert named(found) == ["database-hung"]
    assert found.seconds < 30


@pytest.mark.parametrize("delay_seconds", [0.3, 0.8])
def test_a_slow_way_to_the_database_is_not_taken_for_a_server_that_hangs(
    scene: Scene, delay_seconds: float
) -> None:
    """With the shorter delay the login ends if it is given time, with the longer one it does not."""
    address = urlsplit(scene.database.url)
    with NetworkProxy(address.hostname or "", address.port or 0) as proxy:
        proxy.set_fault("latency", delay_seconds=delay_seconds)
        url = scene.database.url.replace(f":{address.port}/", f":{proxy.port}/")
        found = look(scene, database_url=url)
    assert (found.verdict, named(found)) == ("unknown", []), found.in_words()
    assert found.layer in ("connect", "query"), found.in_words()


@pytest.mark.long
def test_a_lock_on_the_whole_table_is_told_from_rows_that_an_idle_transaction_holds(
    scene: Scene,
) -> None:
    scene.past(20)
    scene.add(3)
    with locked(scene, "LOCK TABLE content_jobs IN ACCESS EXCLUSIVE MODE"):
        time.sleep(TABLE_LOCK_SECONDS)
        assert named(look(scene)) == ["database-table-locked"]
    with locked(scene, "SELECT FROM content_jobs WHERE status = 'pending' FOR UPDATE"):
        time.sleep(LONG_LOCK_SECONDS)
        assert "database-rows-locked-by-idle-transaction" in named(look(scene))


def test_a_cause_that_no_rule_knows_is_not_given_a_name_but_a_layer(scene: Scene) -> None:
    scene.past()
    scene.control.set_fault("openai", "model_not_found")
    scene.add(4)
    with scene.working():
        scene.until(lambda: scene.failed_as("openai_model_not_found") >= 1, "an attempt failed")
        found = look(scene)
    assert (found.verdict, named(found), found.layer) == ("unknown", [], "generate")
    assert found.check.verdict == "not_enough_data"
    assert "No known cause fits" in found.in_words()


def test_tables_that_are_not_there_are_no_good_news(
    new_database: Callable[..., Database], home: Path
) -> None:
    empty = new_database(migrated=False)
    with open_context(
        Settings(database_url=empty.url, runbook_home=home), require_schema=False
    ) as context:
        found = diagnose_context(context)
    # None of them is there: it is the wrong database or schema.
    assert (found.verdict, found.layer) == ("unknown", "configuration")


@contextmanager
def locked(scene: Scene, statement: str) -> Iterator[None]:
    """Another session's transaction that did this and then sits there."""
    other = psycopg2.connect(scene.database.url)
    try:
        with other.cursor() as cursor:
            cursor.execute(statement)
        yield
    finally:
        other.close()


# rules, without a system


def facts(*names: str, source: str | None = None) -> Facts:
    """Facts that hold, each from a source of its own unless one is given."""
    return Facts.of(
        Fact(name, "query", True, name, source=source or name, symptom=True, severe=True)
        for name in names
    )


def test_every_rule_is_of_facts_that_there_are(scene: Scene) -> None:
    stated = {fact.name for fact in look(scene).facts} | set(OF_CIRCUMSTANCES)
    classes = {*FAILURE_CLASSES, "unclassed"}
    for cause in CAUSES:
        assert cause.layer in LAYERS
        assert cause.needs or cause.one_of, cause.id
        used = [
            *cause.needs,
            *cause.supports,
            *cause.excludes,
            *cause.stands,
            *(name for group in cause.one_of for name in group),
        ]
        for name in used:
            kind, _, rest = name.partition(".")
            known = name in stated or (kind in ("paused", "partly") and rest in classes)
            assert known, f"{cause.id}: {name}"
        assert {*cause.explains, *cause.mistaken_for} <= {*BY_ID, *HEALTHY_BUT_ALARMING}, cause.id
        assert cause.action.change in {None, *KIND_MODULES}, cause.id


# Stated only where what they are about is there.
OF_CIRCUMSTANCES = ("database.recovered_from_a_crash", "database.statistics_began_with_it")
HEALTHY_BUT_ALARMING = ("quiet-day", "report-late-behind-another")


def test_no_cause_is_named_on_one_source_alone() -> None:
    cause = BY_ID["openai-quota-exhausted"]
    names = ("failing.openai_quota_exhausted", "attempts.all_fail")
    assert fit(cause, facts(*names)) is not None
    assert fit(cause, facts(*names, source="one text")) is None
    assert judge(facts(*names, source="one text")).verdict == "unknown"


def test_what_rules_a_cause_out_does_so_and_a_consequence_is_not_named_beside_its_cause() -> None:
    quota = facts(
        "failing.openai_quota_exhausted", "paused.openai_quota_exhausted", "openai.key_refused"
    )
    assert fit(BY_ID["openai-quota-exhausted"], quota) is None
    both = judge(
        facts(
            "workers.vanished",
            "workers.vanished_with_jobs",
            "workers.none_alive",
            "queue.jobs_due",
            "workers.just_vanished",
        )
    )
    assert [each.cause.id for each in both.causes] == ["worker-killed"]


def test_two_causes_at_once_are_both_named() -> None:
    found = judge(
        facts(
            "wordpress.login_refused",
            "failing.wordpress_login_failed",
            "workers.vanished",
            "workers.vanished_with_jobs",
            "jobs.leases_expired",
        )
    )
    assert {each.cause.id for each in found.causes} == {"wordpress-login-revoked", "worker-killed"}


def test_without_any_answer_the_verdict_is_unknown_and_not_healthy() -> None:
    assert assess(Evidence(), Policy()).verdict == "unknown"


def test_during_planned_maintenance_nothing_is_called_a_fault() -> None:
    found = judge(facts("database.refused", "database.unanswered", "maintenance.planned"))
    assert (found.verdict, found.causes) == ("watch", ())


def test_harmful_advice_is_never_given() -> None:
    """The written runbook's steps that do harm in some situation stand nowhere as advice for it."""
    for cause in CAUSES:
        told = f"{cause.action.words} {cause.action.command}".lower()
        assert not re.search(
            r"increas|raise .*(concurren|time-?out|limit)|rotate all|verify=false|delete ", told
        ), cause.id
        # Sweeping is only shown: while workers live they sweep by themselves.
        assert "sweeper" not in cause.action.command or "dry_run" in cause.action.command, cause.id
        if cause.action.change == "limits.lower":
            assert int(str(cause.action.parameters["concurrency"])) <= 4
    for name in ("database-connections-exhausted", "openai-rate-limited", "openai-slow"):
        assert "concurrency" in str(BY_ID[name].action.never), name
    assert "time-out" in str(BY_ID["database-table-locked"].action.never)
    assert "sweeper" in str(BY_ID["sweeper-too-eager"].action.never)


# workers that are gone


def worker(name: str, *, began: float, silent: float, **others: object) -> SimpleNamespace:
    """A worker's row: it began and was last heard of so many seconds ago, on another host."""
    given = {
        "worker": name, "host": "elsewhere", "pid": 1, "version": "1", "settings_digest": "a", "concurrency": 2, "prefetch": 0,
        "in_flight": 0, "finished_count": 3, "failed_count": 0, "stopped": False, "draining": False, "drained_by": None,
        "age_seconds": began, "silent_seconds": silent, "without_progress_seconds": None, "lived_seconds": began - silent,
        "clock_offset_seconds": 0.0,
    }  # fmt: skip
    return SimpleNamespace(**{**given, **others})


def of_workers(
    *rows: SimpleNamespace, held_by: str | None = None, waiting: int = 0, lease: float = 20.0
) -> Facts:
    held = [SimpleNamespace(worker=held_by, lease_left_seconds=lease, stage="write", age_seconds=30.0, lost_count=0, job_id="a")]  # fmt: skip
    waits = [SimpleNamespace(stage="write", due=True, jobs=waiting, longest_seconds=90.0, error_class=None, most_lost=0)]  # fmt: skip
    lost = SimpleNamespace(
        worker="gone", status="lost", execution_time=NOW, error=None, error_class="worker_lost", age_seconds=700.0, job_id="a",
        stage="write", category=None, model=None, completed_at=None, started_at=None, write_seconds=None, publish_seconds=None, tokens=None,
    )  # fmt: skip
    evidence = Evidence(
        rows={"workers": rows, "in_processing": held if held_by else [], "waiting": waits if waiting else []}
    )  # fmt: skip
    attempts = Attempts([lost])
    return Facts.of([*worker_facts(evidence, attempts), *queue_facts(evidence, attempts)])


def test_a_worker_that_was_killed_is_history_once_another_took_its_place() -> None:
    gone, other = worker("gone", began=3000, silent=700), worker("other", began=3000, silent=1)
    replaced = worker("new", began=650, silent=1)
    assert of_workers(gone, other).holds("workers.vanished")
    assert not of_workers(gone, other, replaced).holds("workers.vanished")
    # Not while jobs are in its name, nor for one new worker after two that are gone, nor at once.
    assert of_workers(gone, other, replaced, held_by="gone").holds("workers.vanished")
    assert of_workers(gone, worker("gone too", began=3000, silent=690), replaced).holds("workers.vanished")  # fmt: skip
    just, new = worker("gone", began=3000, silent=300), worker("new", began=200, silent=1)
    assert of_workers(just, other, new).holds("workers.vanished")


def test_jobs_that_somebody_put_into_processing_by_hand_are_nobodys() -> None:
    working = worker("it", began=3000, silent=1)
    found = judge(of_workers(working, held_by="by hand", lease=80_000.0))
    assert (found.verdict, found.causes, found.layer) == ("unknown", (), "workers")
    assert judge(of_workers(working, held_by="it", lease=80_000.0)).verdict != "unknown"
    assert judge(of_workers(working, held_by="by hand")).verdict != "unknown"


def test_a_process_that_is_stopped_follows_from_no_service_that_is_slow() -> None:
    stalled = ("openai.silent", "failing.openai_timeout", "workers.some_alive")
    stopped = ("workers.process_frozen", "workers.vanished", "workers.process_there")
    causes = {each.cause.id for each in judge(facts("failing.openai_timeout", "paused.openai_timeout", *stopped)).causes}  # fmt: skip
    assert causes == {"openai-stalled", "worker-stuck"}
    assert {each.cause.id for each in judge(facts(*stalled)).causes} == {"openai-stalled"}


@pytest.mark.parametrize(("state", "die"), [("gone", True), ("alive", False), (None, False)])
def test_workers_of_which_the_process_is_gone_died_young_however_lately(
    state: str | None, die: bool
) -> None:
    rows = [worker(f"w{pid}", began=2.0 * pid, silent=2.0 * pid - 0.1, pid=pid) for pid in (1, 2, 3)]  # fmt: skip
    seen = [SimpleNamespace(host="elsewhere", pid=row.pid, state=state) for row in rows]
    evidence = Evidence(rows={"workers": rows, "processes": seen})
    assert Facts.of(fleet_facts(evidence, Attempts([]))).holds("workers.die_young") is die


def test_a_crash_loop_is_over_once_a_worker_that_began_since_lives() -> None:
    def die_young(*rows: SimpleNamespace) -> bool | None:
        evidence = Evidence(rows={"workers": rows})
        return Facts.of(fleet_facts(evidence, Attempts([]))).holds("workers.die_young")

    crashed = [worker(f"w{number}", began=80.0 + number, silent=79.0 + number) for number in range(4)]  # fmt: skip
    assert die_young(*crashed)
    assert die_young(*crashed, worker("older", began=900, silent=1))
    assert not die_young(*crashed, worker("since", began=70, silent=1))


def test_a_session_that_only_listens_is_not_one_that_hears_nothing() -> None:
    def in_vain(**given: object) -> bool | None:
        session = SimpleNamespace(**{"pid": 1, "state": "idle", "wait_event_type": "Client", "blocked": False, "in_state_seconds": 130.0, "listens": False, **given})  # fmt: skip
        active = SimpleNamespace(pid=7, context_switches=0, unacknowledged_bytes=0, polls=True)
        evidence = Evidence(rows={"workers": [worker("it", began=900, silent=15)], "worker_sessions": [session], "activity": [active]})  # fmt: skip
        return Facts.of(worker_facts(evidence, Attempts([]))).holds("workers.polls_in_vain")

    assert in_vain()
    assert not in_vain(listens=True)
    assert not in_vain(in_state_seconds=2.0)


def test_what_is_over_does_not_make_a_trouble_that_stands_harmless() -> None:
    gone, now = worker("gone", began=3000, silent=400), worker("it", began=3000, silent=1)
    found = judge(of_workers(gone, now, held_by="by hand", lease=80_000.0))
    assert (found.verdict, found.layer) == ("unknown", "workers")


def test_who_ended_last_tells_whether_the_workers_were_stopped_or_killed() -> None:
    gone = worker("gone", began=3000, silent=700)
    drained = worker("last", began=3000, silent=60, stopped=True, draining=True, drained_by="ana")
    found = of_workers(gone, drained, waiting=3)
    assert found.by_name["workers.stopped_orderly"].words == (
        "The last worker, last, stopped in order 60 s ago, as ana had asked it to."
    )
    causes = judge(found).causes
    assert [(each.cause.id, each.over) for each in causes] == [("workers-stopped", False), ("worker-killed", True)]  # fmt: skip
    assert assess_words(causes).endswith("Over by now: worker-killed.")
    first_stopped = worker("first", began=3000, silent=900, stopped=True)
    assert [each.cause.id for each in judge(of_workers(gone, first_stopped, waiting=3)).causes] == ["worker-killed"]  # fmt: skip


def assess_words(causes: tuple[Found, ...]) -> str:
    judgement = Judgement("fault", causes, causes[0].cause.layer)
    return Diagnosis(judgement, Facts(), Evidence(), (), 0.0).in_words()


def test_what_follows_from_a_cause_is_no_open_question() -> None:
    found = judge(
        facts("database.read_only", "database.answers", "workers.vanished", "workers.none_alive")
    )
    assert [each.cause.id for each in found.causes] == ["database-read-only"]
    assert [fact.name for fact in found.unexplained] == []


def test_severe_trouble_that_the_cause_does_not_explain_stands_in_the_first_sentences() -> None:
    (found,) = judge(
        facts("topics.refused_for_filter", "topics.others_fine_filter", "openai.key_accepted", "topics.refused_again_filter")
    ).causes  # fmt: skip
    open_question = Fact("settings.unusable", "configuration", True, "A setting is cut.", symptom=True, severe=True)  # fmt: skip
    told = Diagnosis(Judgement("fault", (found,), "data", (open_question,)), Facts(), Evidence(), (), 0.0)  # fmt: skip
    assert told.in_words().endswith("Not explained by it: A setting is cut.")


def test_where_no_cause_is_known_the_next_step_is_told() -> None:
    refused = Fact("database.login_refused", "log in", True, "refused", symptom=True, severe=True, next="Correct the name.")  # fmt: skip
    judged = Judgement("unknown", (), "log in", (refused,))
    found = Diagnosis(judged, Facts(), Evidence(), (), 0.0)
    assert found.next_step == "Correct the name. Look on: runbook doctor"
    assert found.as_dictionary()["next_step"] == found.next_step
    assert found.next_step in found._repr_html_()
    elsewhere = Diagnosis(replace(judged, layer="publish", unexplained=()), Facts(), Evidence(), (), 0.0)  # fmt: skip
    assert elsewhere.next_step == "Look on: runbook run troubleshooting/wordpress_errors"
    assert replace(found, judgement=Judgement("healthy", (), None)).next_step is None


def test_where_to_look_on_is_a_procedure_that_there_is(settings: Settings) -> None:
    assert {*LOOK_ON} <= {*LAYERS}
    assert {*LOOK_ON.values()} <= {*names(settings)}


# the first action as a planned change


def test_the_first_action_is_planned_applied_and_taken_back(scene: Scene) -> None:
    database = scene.database
    plan = changes.plan(
        database, "provider.pause", {"provider": "openai", "reason": "quota"}, actor="ana"
    )
    assert plan.row_count == 1
    changes.apply(database, plan.change_id, actor="ana", dry_run=False)
    assert pauses(database) == {"openai": "quota"}
    # A pause that stands is left alone, above all one that workers made and end by themselves.
    assert (
        changes.plan(
            database, "provider.pause", {"provider": "openai", "reason": "again"}, actor="bo"
        ).row_count
        == 0
    )
    undo = changes.plan_undo(database, plan.change_id, actor="ana")
    changes.apply(database, undo.change_id, actor="ana", dry_run=False)
    assert pauses(database) == {}


def test_a_limit_is_lowered_and_restored_and_never_raised(scene: Scene) -> None:
    database = scene.database
    given = {"provider": "openai", "concurrency": 2}
    plan = changes.plan(database, "limits.lower", given, actor="ana")
    changes.apply(database, plan.change_id, actor="ana", dry_run=False)
    assert concurrency(database) == 2
    higher = changes.plan(database, "limits.lower", {**given, "concurrency": 50}, actor="ana")
    assert higher.row_count == 0
    undo = changes.plan_undo(database, plan.change_id, actor="ana")
    changes.apply(database, undo.change_id, actor="ana", dry_run=False)
    assert concurrency(database) is None


def pauses(database: Database) -> dict[str, str]:
    with database.transaction() as transaction:
        rows = transaction.rows("SELECT provider, reason FROM provider_pauses")
    return {row.provider: row.reason for row in rows}


def concurrency(database: Database) -> int | None:
    with database.transaction() as transaction:
        found: int | None = transaction.value(
            "SELECT concurrency FROM provider_limits WHERE provider = 'openai'"
        )
    return found


def test_a_notebook_is_told_what_to_do_where_the_first_action_is_no_change(scene: Scene) -> None:
    sources = open_context(scene.settings, require_schema=False).sources
    workplace = Workplace(sources, {})
    healthy = assess(Evidence(), Policy())
    refused = propose_first_action(workplace, healthy)
    assert "no action is known to be safe" in (refused.problem or "")
    assert refused.apply(dry_run=False).outcome == "refused"


def test_an_action_is_about_whom_the_evidence_names_and_without_a_name_there_is_none() -> None:
    lock = Fact(
        "database.table_lock_held",
        "query",
        True,
        "locked",
        source="a",
        subject={"pid": 7, "since": "2026-11-26"},
    )
    others = facts("database.sessions_wait", "queue.not_claimed")
    (found,) = judge(Facts.of([lock, *others])).causes
    assert found.action.parameters == {"pid": 7, "since": "2026-11-26", "how": "terminate"}
    assert "pid=7" in found.action.command
    (nameless,) = judge(Facts.of([replace(lock, subject={}), *others])).causes
    assert (nameless.action.change, nameless.action.parameters) == (None, {})
    assert "pid=PID" in nameless.action.command


@pytest.mark.parametrize(
    ("application", "planned"),
    [
        ("monthly reports", True),
        ("runbook-worker", False),
        ("Runbook console", False),
        ("(no name)", False),
        ("reports; curl evil", False),
        ("$(curl evil)", False),
    ],
)
def test_idle_sessions_are_ended_of_a_named_program_of_others_alone(
    application: str, planned: bool
) -> None:
    rows = [
        SimpleNamespace(application=name, role="of_reports", sessions=idle + 1, idle=idle, new_sessions=0, oldest_seconds=900.0)
        for name, idle in ((application, 30), ("runbook monitor", 1))
    ]  # fmt: skip
    known = Facts.of([*database_facts(Evidence(rows={"sessions": rows})), *facts("database.connections_full_server")])  # fmt: skip
    (found,) = [each for each in judge(known).causes if each.cause.id == "database-connections-exhausted"]  # fmt: skip
    assert (found.action.change == "sessions.end_idle") == planned
    named = {"application": application, "role": "of_reports"} if planned else {}
    assert found.action.parameters == named
    assert (application in found.action.command) == planned
    assert found.action.automation == "P"


def test_what_the_migrations_make_is_known_by_name(database: Database) -> None:
    """After a migration that touches these tables: write the lines of this comparison into the file."""
    tables = list(OWN_TABLES)
    with database.transaction(read_only=True) as transaction:
        columns = transaction.rows(load("triage")["columns"], tables=tables)
        rules = transaction.rows(
            load("triage")["rules_of_tables"], tables=[*tables, "job_runs_default"]
        )
    lines = {f"{row.title} column {row.name}" for row in columns}
    lines |= {f"{row.relation} {row.kind} {row.name}" for row in rules}
    assert sorted(lines) == EXPECTED_SCHEMA.read_text("utf-8").splitlines()


@pytest.mark.parametrize(
    ("source", "kind", "again"),
    [
        ("triage.waiting", "statement", "runbook triage --statement triage.waiting"),
        ("triage.waiting, of the last hour", "statement", "runbook triage --statement triage.waiting"),
        ("database.reachable", "probe", "runbook doctor"),
        ("../etc.passwd", "probe", "runbook doctor"),
    ],
)  # fmt: skip
def test_a_line_of_evidence_says_whether_a_statement_or_a_probe_gave_it(
    source: str, kind: str, again: str
) -> None:
    cited = Fact("some.fact", "query", True, "words", source=source).cited()
    assert (cited[kind], cited["again"]) == (source, again)


# what was healed is over


def attempt(age: float, **others: object) -> SimpleNamespace:
    """An attempt that ended so many seconds ago; where nothing else is said, one that was published."""
    given = {
        "job_id": f"job {age}", "worker": "w1", "category": "News", "model": "m", "status": "completed", "error": None, "error_class": None,
        "provider": None, "provider_code": None, "http_status": None, "sqlstate": None, "stage": "publish", "tokens": 100,
        "write_seconds": 2.0, "publish_seconds": 1.0, "age_seconds": age, "execution_time": NOW - timedelta(seconds=age),
        "started_at": None, "completed_at": None,
    }  # fmt: skip
    return SimpleNamespace(**{**given, **others})


def failure(age: float, error_class: str, error: str = "", **others: object) -> SimpleNamespace:
    return attempt(age, status="error", error_class=error_class, error=error, tokens=None, write_seconds=None, **others)  # fmt: skip


def stated(rows: list[SimpleNamespace]) -> Facts:
    evidence, attempts = Evidence(rows={"newest_attempts": rows}), Attempts(rows)
    return Facts.of([*content_facts(evidence, attempts), *failure_facts(evidence, attempts)])


BAD = [failure(300 + n, "content_empty") for n in range(20)]
UNRESOLVED = [failure(300 + n, "wordpress_unreachable", "getaddrinfo failed", provider="wordpress") for n in range(8)]  # fmt: skip
WELL_BEFORE = [attempt(400 + n) for n in range(20)]


@pytest.mark.parametrize(
    ("fact", "failures"), [("content.many_refused", BAD), ("failing.names", UNRESOLVED)]
)
def test_what_struck_again_and_again_is_over_once_enough_went_well_since(
    fact: str, failures: list[SimpleNamespace]
) -> None:
    assert stated([*failures, *WELL_BEFORE]).holds(fact)
    assert stated([attempt(250), *failures, *WELL_BEFORE]).holds(fact)
    since = [attempt(10 * n) for n in range(25)]
    assert stated([*since, *failures, *WELL_BEFORE]).holds(fact) is False


def test_what_failed_before_a_long_calm_is_not_counted_as_what_fails_now() -> None:
    earlier = [failure(1200 + age, "openai_quota_exhausted") for age in range(5)]
    well = [attempt(600 + age) for age in range(40)]
    rows = [failure(30, "wordpress_login_failed"), attempt(60), failure(90, "wordpress_login_failed"), *well, *earlier]  # fmt: skip
    found = assess(Evidence(rows={"newest_attempts": rows}, taken_at=NOW), Policy())
    assert (found.scope()["failed_attempts"], found.scope()["most_frequent"]) == (2, "wordpress_login_failed")  # fmt: skip
    # Without a failure after it, what failed last is told.
    over = assess(Evidence(rows={"newest_attempts": [*well, *earlier]}, taken_at=NOW), Policy())
    assert over.scope()["failed_attempts"] == 5


@pytest.mark.parametrize("due", [False, True])
def test_jobs_that_wait_for_their_time_do_not_suffer_from_a_provider_that_works_again(
    due: bool,
) -> None:
    off = [failure(60 + n, "wordpress_rest_off") for n in range(6)]
    rows = [*(attempt(10 + n) for n in range(4)), *off, *(attempt(400 + n) for n in range(20))]
    waits = SimpleNamespace(stage="publish", due=due, jobs=6, longest_seconds=20.0, error_class="wordpress_rest_off", most_lost=0)  # fmt: skip
    found = {"newest_attempts": rows, "waiting": [waits], "ended_in_error": [], "pauses": []}
    facts = Facts.of(failure_facts(Evidence(rows=found, taken_at=NOW), Attempts(rows)))
    assert facts.holds("failing.wordpress_rest_off") is False
    # While the newest attempts fail, nothing works again.
    still = {**found, "newest_attempts": rows[4:]}
    assert Facts.of(failure_facts(Evidence(rows=still, taken_at=NOW), Attempts(rows[4:]))).holds("failing.wordpress_rest_off")  # fmt: skip


def test_jobs_that_ended_before_the_site_was_healed_are_no_fault_of_now() -> None:
    def holds(well: int) -> bool | None:
        off = [failure(200.0 + n, "wordpress_answer_differs") for n in range(6)]
        rows = [*(attempt(10.0 + n) for n in range(well)), *off, *(attempt(400.0 + n) for n in range(20))]  # fmt: skip
        ended = SimpleNamespace(error_class="wordpress_answer_differs", jobs=6, category=None, newest=NOW)  # fmt: skip
        found = {"newest_attempts": rows, "waiting": [], "ended_in_error": [ended], "pauses": []}
        facts = Facts.of(failure_facts(Evidence(rows=found, taken_at=NOW), Attempts(rows)))
        return facts.holds("failing.wordpress_answer_differs")

    assert holds(0)
    assert not holds(16)


def test_a_provider_that_was_healed_twice_works_again_and_one_that_fails_by_turns_does_not() -> (
    None
):
    def holds(pattern: str) -> bool | None:
        rows = [
            failure(10.0 * age, "wordpress_rest_off") if each == "x" else attempt(10.0 * age)
            for age, each in enumerate(pattern, start=1)
        ]
        found = {"newest_attempts": rows, "waiting": [], "ended_in_error": [], "pauses": []}
        facts = Facts.of(failure_facts(Evidence(rows=found, taken_at=NOW), Attempts(rows)))
        return facts.holds("failing.wordpress_rest_off")

    assert not holds("." * 10 + "xxx" + "." * 60 + "xxxxxx" + "." * 20)
    assert holds("." * 2 + "xxx" + "." * 60 + "xxxxxx" + "." * 20)
    assert holds("..x.x.xx.x.x.x.x.xx.x.x" + "." * 40)


def test_a_pause_is_told_with_its_end_and_what_ends_it() -> None:
    def told(**given: object) -> str:
        row = SimpleNamespace(**{"provider": "openai", "reason": "too dear", "error_class": None, "automatic": False, "paused_by": "ana", "paused_at": NOW, "until": None, **given})  # fmt: skip
        judged = Judgement("watch", (), None)
        return Diagnosis(judged, Facts(), Evidence(rows={"pauses": [row]}), (), 0.0).waiting[0]

    until = NOW + timedelta(minutes=30)
    assert told() == "openai is paused since 12:00 UTC (too dear) by ana. This ends it: runbook resume openai"  # fmt: skip
    assert "by ana, until 12:30 UTC." in told(until=until)
    assert "one job tries again at 12:30 UTC" in told(until=until, automatic=True, error_class="openai_key_invalid")  # fmt: skip
    assert "resume" not in told(until=until, automatic=True, error_class="daily_cap_reached")
    by_ana = SimpleNamespace(provider="openai", reason="too dear", error_class=None, automatic=False, paused_by="ana", paused_at=NOW, until=None)  # fmt: skip
    evidence = Evidence(rows={"pauses": [by_ana], "newest_attempts": []})
    assert judge(Facts.of(failure_facts(evidence, Attempts([])))).verdict == "watch"


def test_bad_articles_that_began_a_moment_ago_are_told_beside_many_that_were_good() -> None:
    good = [attempt(200 + n) for n in range(200)]
    assert stated([*(failure(10 * n, "content_empty") for n in range(6)), *good]).holds("content.many_refused")  # fmt: skip
    three = [failure(10 * n, "content_empty") for n in range(3)]
    assert stated([*three, *good]).holds("content.many_refused") is False


def test_two_services_that_failed_one_after_the_other_are_no_link_that_flaps() -> None:
    def broken(age: float, provider: str) -> SimpleNamespace:
        return failure(age, f"{provider}_unreachable", "connection reset", provider=provider)

    site = [broken(age, "wordpress") for age in (250.0, 252.0, 254.0)]
    model = [broken(age, "openai") for age in (90.0, 92.0, 94.0)]
    between = [attempt(age) for age in (150.0, 170.0, 190.0, 210.0, 300.0, 310.0, 320.0, 330.0)]
    newest_first = sorted([*site, *model, *between], key=lambda row: row.age_seconds)
    assert stated(newest_first).holds("failing.both_unreachable") is False
    mixed = [broken(age, part) for age, part in ((20, "openai"), (22, "wordpress"), (80, "wordpress"), (82, "openai"))]  # fmt: skip
    flapping = sorted([*mixed, attempt(50), *between], key=lambda row: row.age_seconds)
    assert stated(flapping).holds("failing.both_unreachable")
    # It breaks every minute: after five without a break it is over.
    calm = [attempt(row.age_seconds + 240, **{k: v for k, v in vars(row).items() if k not in ("age_seconds", "execution_time")}) for row in flapping]  # fmt: skip
    assert stated([attempt(5), *calm]).holds("failing.both_unreachable") is False


def test_topics_are_to_blame_only_while_others_are_written_and_what_is_old_is_watched() -> None:
    refused = [failure(10 * n, "openai_content_filtered") for n in range(12)]
    others = [attempt(200 + n) for n in range(60)]
    assert stated([*refused, *others]).holds("topics.refused_for_filter") is False
    meanwhile = [attempt(10 * n + 5) for n in range(12)]
    mixed = sorted([*refused, *meanwhile, *others], key=lambda row: row.age_seconds)
    assert stated(mixed).holds("topics.refused_for_filter")
    assert stated([refused[0], *others]).holds("topics.refused_for_filter")
    old = [failure(400.0, "openai_content_filtered"), failure(401.0, "openai_content_filtered")]
    facts_of_old = stated([*others, *old])
    assert facts_of_old.holds("topics.refused_for_filter")
    assert facts_of_old.holds("topics.refused_again_filter") is False


def test_what_strikes_single_jobs_is_told_after_what_strikes_all() -> None:
    found = judge(
        facts(
            "topics.refused_for_filter", "topics.others_fine_filter", "openai.key_accepted", "jobs.ended_by_filter",
            "topics.refused_again_filter", "wordpress.certificate_expired", "wordpress.connects",
        )
    )  # fmt: skip
    assert [each.cause.id for each in found.causes] == ["wordpress-certificate-expired", "openai-content-filtered"]  # fmt: skip


def test_a_worker_that_took_its_jobs_just_now_does_not_stand_still() -> None:
    row = worker("w", began=3000, silent=1, in_flight=1, without_progress_seconds=400.0)
    assert of_workers(row).holds("workers.stand_still")
    # Its job is of half a minute ago.
    assert of_workers(row, held_by="w").holds("workers.stand_still") is False
