"""Which procedure to open, and how a new one is added: in a folder of the team's own, in the right form."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import test_notebook_form as form
from fixture_procedures import write_procedure

from runbook_lib import cli
from runbook_lib.database import Database
from runbook_lib.health.sources import Sources
from runbook_lib.pipeline.error_guide import SCENARIOS
from runbook_lib.procedures import catalogue
from runbook_lib.procedures.questions import ask
from runbook_lib.procedures.runner import run
from runbook_lib.procedures.start_page import StartPage, which_procedure
from runbook_lib.procedures.template import new_procedure
from runbook_lib.procedures.workplace import Workplace
from runbook_lib.settings import PROJECT_DIRECTORY, Settings, load_settings


@pytest.fixture
def workplace(database: Database, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setenv("DATABASE_URL", database.url)
    return Workplace(Sources(database, database), {})


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("RUNBOOK_PROCEDURES", str(folder))
    load_settings.cache_clear()
    return folder


def first(page: StartPage) -> str:
    return page.results()["procedures"][0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("symptom", "procedure"),
    [
        ("jobs stay in processing and nobody works on them", "emergency/stuck_jobs"),
        ("the failure rate is high", "emergency/high_failure_rate"),
        ("we want to release a new version", "release/pre_deployment"),
        ("how did last week go", "weekly/performance_review"),
        ("is it healthy", "daily/health_check"),
    ],
)
def test_a_symptom_in_words_leads_to_its_procedure(
    workplace: Workplace, symptom: str, procedure: str
) -> None:
    found = which_procedure(workplace, symptom=symptom)
    assert procedure in found.results()["procedures"][:2]
    assert found.verdict == "ok"


def test_an_errors_text_leads_through_the_guide(workplace: Workplace) -> None:
    found = which_procedure(workplace, error_text="The worker host-b:1 vanished during attempt 2.")
    assert first(found) == "emergency/stuck_jobs"
    assert "runbook function sweeper" in str(found.check.next)


def test_every_scenario_leads_to_a_procedure_that_there_is(workplace: Workplace) -> None:
    """Where its own has not been written yet, to the triage."""
    for scenario in SCENARIOS:
        assert scenario.procedure.count("/") == 1
    unknown = which_procedure(workplace, error_text="zzz")
    assert unknown.verdict == "not_enough_data"
    assert unknown.check.procedure == "emergency/system_down"


def test_open_alerts_decide_when_nothing_is_asked(workplace: Workplace) -> None:
    quiet = which_procedure(workplace)
    assert (quiet.verdict, quiet.results()["open_alerts"]) == ("ok", 0)
    with workplace.database.transaction() as transaction:
        for cause, severity, procedure in (
            ("database.blockers", "warning", "troubleshooting/database_errors"), ("queue.stuck", "critical", "emergency/stuck_jobs"),
        ):  # fmt: skip
            transaction.run(
                "INSERT INTO alerts (alert_id, cause, status, severity, level, since, opened_at, last_seen_at, evidence)"
                " VALUES (gen_random_uuid(), %(cause)s, 'open', %(severity)s, 1, now(), now(), now(), %(evidence)s::jsonb)",
                cause=cause, severity=severity,
                evidence=json.dumps({"procedure": procedure, "parameters": {"older_than_minutes": 30}}),
            )  # fmt: skip
    found = which_procedure(workplace)
    assert found.check.procedure == "emergency/stuck_jobs"
    assert [each.procedure for each in found.alerts] == ["emergency/stuck_jobs", "troubleshooting/database_errors"]  # fmt: skip
    assert "runbook run emergency/stuck_jobs -p older_than_minutes=30" in repr(found.open_alerts)
    assert first(which_procedure(workplace, alert="database.blockers")) == "troubleshooting/database_errors"  # fmt: skip


def test_without_a_database_it_answers_all_the_same() -> None:
    away = Database("postgresql://runbook:hidden-word@127.0.0.1:1/x")
    found = which_procedure(Workplace(Sources(away, away), {}), symptom="failure rate")
    assert found.verdict == "ok"
    assert "Open alerts are not known" in repr(found.open_alerts)
    assert "hidden-word" not in repr(found.open_alerts) + str(found.results())


def test_a_new_procedure_has_the_form_and_runs_as_it_stands(
    database: Database, home: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(database_url=database.url, runbook_home=home, runbook_procedures=own)
    path = new_procedure("weekly/dead_links", settings, title="Dead links", author="ana", today=date(2026, 11, 26))  # fmt: skip
    for test in (
        form.test_the_card_that_is_shown_is_the_one_in_the_metadata, form.test_the_parts_stand_in_their_order,
        form.test_cells_are_few_and_short_and_hold_no_logic, form.test_a_notebook_is_kept_without_outputs_for_any_environment,
        form.test_only_names_that_notebooks_may_use_are_imported, form.test_the_first_answer_comes_early_and_each_figure_is_explained,
        form.test_the_prose_says_what_to_expect_in_figures, form.test_the_end_says_who_takes_over_at_each_level,
        form.test_only_one_that_says_so_changes_anything_and_is_dry_unless_told,
    ):  # fmt: skip
        test(path)
    record = run("weekly/dead_links", {"days": 3}, "ana", database=database, settings=settings)
    assert (record.status, record.verdict, record.results["value"]) == ("succeeded", "ok", 0.0)
    monkeypatch.setenv("DATABASE_URL", database.url)
    page = which_procedure(Workplace(Sources(database, database), {}), symptom="dead links")
    assert first(page) == "weekly/dead_links"


def test_a_new_procedure_is_refused_where_it_would_harm(own: Path, home: Path) -> None:
    given = {"database_url": "postgresql://x@127.0.0.1:1/x", "runbook_home": home}
    there, nowhere = (
        Settings(**given, runbook_procedures=own),
        Settings(**given, runbook_procedures=None),
    )  # type: ignore[arg-type]
    for name, settings, words in (
        ("daily/health_check", there, "already"), ("../x/y", there, "is no name"), ("weekly/x", nowhere, "RUNBOOK_PROCEDURES"),
    ):  # fmt: skip
        with pytest.raises(cli.RunbookError, match=words):
            new_procedure(name, settings, author="ana", today=date(2026, 11, 26))
    assert list(own.iterdir()) == []


def test_a_question_is_judged_and_never_writes(workplace: Workplace, own: Path) -> None:
    write_procedure(own, "weekly/ours", "1")
    (own / "weekly" / "ours.sql").write_text(
        "-- name: topics\n-- Topics that wait.\nSELECT count(*) AS topics FROM jobs WHERE status = 'pending';\n"
        "-- name: harm\n-- Deletes.\nDELETE FROM content_jobs RETURNING 1;\n"
    )
    with workplace.database.transaction() as transaction:
        transaction.run("INSERT INTO content_jobs (topic) SELECT 'x' FROM generate_series(1, 7)")

    def asked(statement: str, **more: object) -> tuple[str, float | None]:
        found = ask(workplace, "weekly/ours", statement, **more)  # type: ignore[arg-type]
        return found.verdict, found.value

    assert asked("topics") == ("ok", 7.0)
    assert asked("topics", warning_above=6, critical_above=7) == ("warning", 7.0)
    assert asked("topics", critical_above=6) == ("critical", 7.0)
    assert asked("harm") == ("not_enough_data", None)
    assert asked("nothing") == ("not_enough_data", None)
    assert asked("topics") == ("ok", 7.0)


def test_an_overdue_review_is_told_by_the_list_and_on_the_overview(
    database: Database, own: Path, new_console: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    source = PROJECT_DIRECTORY / "notebooks" / "daily" / "health_check.ipynb"
    late = own / "daily" / "ours.ipynb"
    late.parent.mkdir()
    shutil.copy(source, late)
    card = catalogue.load("daily/ours", late).card
    soon = load_settings()
    assert "daily/ours" not in catalogue.overdue(soon, card.next_review)
    assert "daily/ours" in catalogue.overdue(soon, card.next_review + timedelta(days=1))
    late.write_text(late.read_text().replace(card.next_review.isoformat(), "2026-03-01"))  # fmt: skip
    with pytest.raises(SystemExit):
        cli.main(["procedures"])
    assert "warning: daily/ours is past its review" in capsys.readouterr().err
    with new_console(database_url=database.url, runbook_procedures=own) as console:
        said = " ".join(console.browser("ana").get("/").text.split())
    assert "1 procedure is past the review:" in said
    told = said.split("past the review:")[1][:200]
    assert '<a href="/procedures/daily/ours">' in told
    assert "(was due 2026-03-01, Content operations)" in told
