"""The console's pages: what they say, what their forms do, and that a hostile text stays a text."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from console_content import HOSTILE, TOPICS, fill
from fixture_procedures import write_procedure
from running_console import Browser, RunningConsole

from benchmarks.archived_runs import file_run
from runbook_lib.archive.store import open_store
from runbook_lib.console.charts import Limit, Line, lines, outcomes
from runbook_lib.console.figures import CheckLine, Checks, Figures
from runbook_lib.console.pages import age, prose, query, seconds
from runbook_lib.database import Database

PAGES = (
    "/",
    "/alerts",
    "/triage",
    "/incidents",
    "/jobs",
    "/brakes",
    "/changes",
    "/procedures",
    "/rehearsals",
    "/runs",
    "/schedules",
    "/access",
)


@pytest.fixture(scope="module")
def ana(console: RunningConsole) -> Browser:
    """Somebody who may write, over two days of history."""
    assert console.database is not None
    fill(console.database)
    return console.browser("ana")


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", page))


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag, *(f"@{name}" for name, _ in attrs if name.startswith(("on", "style")))}
        if tag == "script":
            assert dict(attrs).get("src", "").startswith("/static/"), attrs  # type: ignore[union-attr]


def elements(page: str) -> set[str]:
    """The elements of a page, and its attributes that could act."""
    parser = _Elements()
    parser.feed(page)
    assert not [each for each in parser.found if each.startswith("@")]
    return parser.found


def value(database: Database | None, statement: str, **parameters: Any) -> Any:
    assert database is not None
    with database.transaction(read_only=True) as transaction:
        return transaction.value(statement, **parameters)


def test_every_page_is_served_and_says_whose_it_is_and_that_it_is_a_sandbox(ana: Browser) -> None:
    for path in PAGES:
        answer = ana.get(path)
        assert answer.status_code == 200, (path, text_of(answer.text)[:500])
        assert "Sandbox: openai and wordpress" in answer.text
        assert "ana" in text_of(answer.text)
        assert 'href="#main">Skip to the content' in answer.text


def test_the_overview_says_in_words_how_it_is_and_shows_every_check(ana: Browser) -> None:
    said = text_of(ana.get("/").text)
    assert re.search(r"The pipeline (works|is well)|critical", said)
    assert "database.reachable" in said
    assert "wordpress until" in " ".join(said.split())
    assert "hours without any" in said
    assert "nobody knows since when" in said


def test_checks_of_a_monitor_are_shown_worst_first_with_since_when(
    console: RunningConsole, ana: Browser
) -> None:
    assert console.database is not None
    with console.database.transaction() as transaction:
        for name, verdict, ago in (
            ("a.well", "ok", 60),
            ("z.bad", "critical", 45),
            ("m.so", "warning", 5),
        ):
            transaction.run(
                "INSERT INTO check_states (check_name, verdict, message, since, checked_at, details) VALUES "
                "(%(name)s, %(verdict)s, 'said so', now() - make_interval(mins => %(ago)s), now(), "
                """'{"next": "Run `runbook doctor`", "procedure": "weekly/performance_review", "parameters": {"days": 3}}')""",
                name=name, verdict=verdict, ago=ago,
            )  # fmt: skip
    until = time.monotonic() + 60
    while "z.bad" not in (page := ana.get("/").text):  # figures are kept for some seconds
        assert time.monotonic() < until
        time.sleep(0.1)
    assert page.index("z.bad") < page.index("m.so") < page.index("a.well")
    assert "since" in page
    assert "45 min ago" in page
    assert "1 check is critical and 1 warns" in page
    assert "Run <code>runbook doctor</code>" in page
    assert 'href="/procedures/weekly/performance_review?days=3"' in page
    with console.database.transaction() as transaction:
        transaction.run("DELETE FROM check_states")


def test_jobs_are_filtered_searched_and_paged_without_losing_or_repeating_one(ana: Browser) -> None:
    def ids(page: str) -> list[str]:
        return re.findall(r'<td><a href="/jobs/([0-9a-f-]{36})"', page)

    seen: list[str] = []
    address = "/jobs?status=completed"
    while address:
        page = ana.get(address).text
        seen += ids(page)
        found = re.search(r'href="(/jobs[^"]*)"[^>]*rel="next"', page)
        address = html.unescape(found[1]) if found else ""
    assert len(seen) == len(set(seen)) > 100
    searched = ana.get("/jobs?search=TELESCOPE&status=completed").text
    assert 0 < len(ids(searched)) < len(seen)
    assert set(re.findall(r'jobs/[0-9a-f-]{36}">([^<]*)<', searched)) == {
        "Choosing a first telescope"
    }
    assert not ids(ana.get("/jobs?search=100%25_").text)
    assert "No job fits" in ana.get("/jobs?search=nothing+of+the+kind").text
    assert ana.get("/jobs?status=odd").status_code == 400
    assert ana.get("/jobs?since=yesterday").status_code == 400


def test_a_jobs_page_shows_every_attempt_and_what_to_do(
    console: RunningConsole, ana: Browser
) -> None:
    job_id = value(
        console.database,
        "SELECT job_id::text FROM content_jobs WHERE status = 'error' AND error_class = 'wordpress_category_missing' LIMIT 1",
    )
    page = text_of(ana.get(f"/jobs/{job_id[:23]}").text)
    assert "Make the category" in page
    assert "RUNBOOK_FALLBACK_CATEGORY" in page
    assert "The site has no category" in page
    assert ana.get("/jobs/nothing").status_code == 404


def test_a_hostile_text_stays_a_text_on_every_page(console: RunningConsole, ana: Browser) -> None:
    ids = value(
        console.database,
        "SELECT array_agg(job_id::text) FROM content_jobs WHERE error_class = 'mystery'",
    )
    assert len(ids) == len(HOSTILE)
    pages = [
        ana.get(path).text
        for path in ("/jobs?class=mystery", "/", *(f"/jobs/{each}" for each in ids))
    ]
    pages.append(ana.get(f"/jobs?search={HOSTILE[0]}&category={HOSTILE[1]}").text)
    for page in pages:
        assert "<script>alert" not in page
        assert elements(page).isdisjoint({"img", "i", "iframe"})
        assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\x1b\x07]", page)
    assert "&lt;script&gt;alert(" in pages[0]
    assert "{{ 7 * 7 }}" in html.unescape(pages[0])


def test_pausing_resuming_and_limits_are_done_in_the_name_of_who_is_signed_in(
    console: RunningConsole, ana: Browser
) -> None:
    paused = ana.send(
        "/brakes/pause", {"provider": "openai", "reason": "The bill <b>", "for": "1h"}
    )
    assert "paused for all workers" in paused.text
    assert "The bill &lt;b&gt;" in paused.text
    last = "SELECT actor || ' ' || action || ' ' || outcome FROM admin_actions ORDER BY acted_at DESC LIMIT 1"
    assert value(console.database, last) == "ana pause done"
    assert "Say why" in ana.send("/brakes/pause", {"provider": "openai", "reason": ""}).text
    assert "openai: resumed" in ana.send("/brakes/resume", {"provider": "openai"}).text
    limits = {
        "provider": "openai",
        "requests_per_minute": "30",
        "burst_requests": "",
        "concurrency": "",
        "daily_tokens": "",
        "daily_cost_usd": "2.50",
    }
    assert "limits set" in ana.send("/brakes/limits", limits).text
    assert (
        value(
            console.database,
            "SELECT requests_per_minute FROM provider_limits WHERE provider = 'openai'",
        )
        == 30
    )
    assert (
        "takes a whole number"
        in ana.send("/brakes/limits", {**limits, "daily_tokens": "many"}).text
    )
    assert "finishes its 2 jobs" in ana.send("/brakes/drain", {"worker": "host-a:4711"}).text


def test_a_job_is_cancelled_and_tried_again(console: RunningConsole, ana: Browser) -> None:
    job_id = value(
        console.database, "SELECT job_id::text FROM content_jobs WHERE status = 'pending' LIMIT 1"
    )
    assert "The job is cancelled" in ana.send(f"/jobs/{job_id}/cancel", {"reason": "twice"}).text
    assert "pending again" in ana.send(f"/jobs/{job_id}/retry", {}).text
    assert (
        value(
            console.database,
            "SELECT status FROM content_jobs WHERE job_id = %(id)s::uuid",
            id=job_id,
        )
        == "pending"
    )
    assert "only pending jobs" in ana.send(f"/jobs/{_completed(console)}/cancel", {}).text


def test_a_change_is_planned_looked_at_applied_and_taken_back(
    console: RunningConsole, ana: Browser
) -> None:
    filled = ana.get("/changes?kind=jobs.retry&class=wordpress_category_missing").text
    assert 'value="wordpress_category_missing"' in filled
    planned = ana.send(
        "/changes/plan", {"kind": "jobs.retry", "parameter.class": "wordpress_category_missing"}
    )
    assert "Nothing was changed yet" in planned.text
    page = planned.url.removeprefix(console.url)
    waiting = "SELECT count(*) FROM content_jobs WHERE status = 'error' AND error_class = 'wordpress_category_missing'"
    count = value(console.database, waiting)
    assert count > 0
    assert "Say why" in ana.send(f"{page}/apply", {"reason": ""}).text
    assert (
        f"Applied: {count} changed"
        in ana.send(f"{page}/apply", {"reason": "made the category"}).text
    )
    assert value(console.database, waiting) == 0
    undo = ana.send(f"{page}/undo", {})
    ana.send(f"{undo.url.removeprefix(console.url)}/apply", {"reason": "it was the wrong one"})
    assert value(console.database, waiting) == count
    assert "Choose what to change" in ana.send("/changes/plan", {"kind": "rm"}).text


def test_an_alert_is_shown_with_its_procedure_and_acknowledged(
    console: RunningConsole, ana: Browser
) -> None:
    assert console.database is not None
    with console.database.transaction() as transaction:
        transaction.run(
            "INSERT INTO alerts (alert_id, cause, status, severity, level, since, opened_at, last_seen_at, evidence) VALUES "
            "('00000000-0000-4000-8000-000000000001', 'queue.depth', 'open', 'critical', 2, now(), now(), now(), "
            """'{"message": "9000 <i>wait</i>", "procedure": "weekly/performance_review", "parameters": {"days": 2}}')"""
        )
    page = ana.get("/alerts").text
    assert "9000 &lt;i&gt;wait" in page
    assert 'href="/procedures/weekly/performance_review?days=2"' in page
    done = ana.send(
        "/alerts/00000000-0000-4000-8000-000000000001/acknowledge", {"note": "on it"}
    ).text
    assert "ana has it" in done
    assert "on it" in done
    assert ana.get("/alerts/00000000").status_code == 200


def test_a_schedule_is_paused_with_a_reason_and_resumed(ana: Browser) -> None:
    page = ana.get("/schedules").text
    assert "No scheduler has ever run here" in page
    assert "weekly_performance_review" in page
    paused = ana.send(
        "/schedules/weekly_performance_review/pause", {"reason": "A release", "for": "24h"}
    )
    assert "A release" in paused.text
    assert "reason" in ana.send("/schedules/weekly_performance_review/pause", {"reason": " "}).text
    assert "resumed" in ana.send("/schedules/weekly_performance_review/resume", {}).text
    assert "There is no schedule" in ana.send("/schedules/nothing/pause", {"reason": "x"}).text


def test_a_procedures_form_is_made_from_its_declaration_and_refuses_in_words(ana: Browser) -> None:
    page = ana.get(
        "/procedures/weekly/performance_review?days=3&time_zone=Europe/Berlin&odd=1"
    ).text
    assert re.search(r'name="parameter.days"[^>]*value="3"', page)
    assert 'value="Europe/Berlin"' in page
    assert "a whole number from 1 to 366 days" in page
    assert "odd, which this procedure does not take" in page
    refused = ana.send(
        "/procedures/weekly/performance_review/run",
        {"parameter.days": "999", "parameter.time_zone": "UTC"},
    )
    assert refused.status_code == 400
    assert "days = 999: expected a whole number from 1 to 366 days" in text_of(refused.text)
    assert 'value="999"' in refused.text
    assert ana.get("/procedures/weekly/nothing").status_code == 404


def test_a_procedure_is_run_from_its_page_and_its_archived_page_can_do_nothing(
    new_console: Callable[..., Any], database: Database, tmp_path: Path
) -> None:
    write_procedure(
        tmp_path, "drill/quick", "print('<script>alert(1)</script>', topic)",
        parameters="from runbook_lib import parameter\ntopic = parameter('bread')",
    )  # fmt: skip
    with new_console(database_url=database.url, runbook_procedures=tmp_path) as console:
        ana = console.browser("ana")
        started = ana.send("/procedures/drill/quick/run", {"parameter.topic": "a telescope"})
        assert started.url.startswith(f"{console.url}/runs/")
        until = time.monotonic() + 120
        while "ran whole" not in (page := ana.get(started.url.removeprefix(console.url)).text):
            assert time.monotonic() < until, text_of(page)
            time.sleep(0.2)
        assert "a telescope" in page
        assert "unaltered" in page
        archived = ana.get(started.url.removeprefix(console.url) + "/page")
        assert archived.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert "<script>alert" not in archived.text
        listed = text_of(ana.get("/runs?procedure=drill/quick&actor=an").text)
        assert "succeeded" in listed


def test_two_runs_are_compared_by_verdict_figures_and_cells(
    console: RunningConsole, ana: Browser
) -> None:
    store = open_store(console.house.settings)
    assert console.database is not None
    first, second = (
        file_run(
            console.database, store, procedure="weekly/compared", verdict=verdict, results={"failed": failed},
            notebook=json.dumps({
                "nbformat": 4, "nbformat_minor": 5, "metadata": {},
                "cells": [{"cell_type": "markdown", "id": "said", "metadata": {}, "source": f"{failed} <b>failed</b>"}],
            }).encode(),
        )
        for verdict, failed in (("ok", 2), ("critical", 3))
    )  # fmt: skip
    page = ana.get(f"/diff/{first}/{second}").text
    said = " ".join(text_of(page).split())
    for words in ("Verdict Before After By verdict ok critical", "failed 2 3 +50 %", "-2 <b>failed</b>", "+3 <b>failed</b>"):  # fmt: skip
        assert words in said, said
    assert "b" not in elements(page)


def test_a_run_that_goes_on_is_shown_and_asked_to_end(
    console: RunningConsole, ana: Browser
) -> None:
    assert console.database is not None
    with console.database.transaction() as transaction:
        run_id = transaction.value(
            "INSERT INTO notebook_runs (procedure, actor, trigger, host, pid, source_sha256, cells_total, cells_done) "
            "VALUES ('drill/long', 'bob', 'manual', 'elsewhere', 1, 'x', 9, 4) RETURNING run_id::text"
        )
    page = ana.get(f"/runs/{run_id}").text
    assert "Cell 4 of 9" in page
    assert "asked to end" in ana.send(f"/runs/{run_id}/cancel", {}).text
    asked = "SELECT cancel_requested_by FROM notebook_runs WHERE run_id = %(id)s::uuid"
    assert value(console.database, asked, id=run_id) == "ana"


def test_with_the_database_down_every_page_says_so_and_the_console_stays(
    new_console: Callable[..., Any],
) -> None:
    with new_console(
        database_url="postgresql://runbook:a-password-of-ours@127.0.0.1:1/runbook"
    ) as console:
        ana = console.browser("ana")
        overview = ana.get("/")
        assert overview.status_code == 200
        assert "critical" in overview.text
        assert "There are no figures" in overview.text
        # What is broken is what triage is for.
        triage = ana.get("/triage")
        assert (triage.status_code, "database-down" in triage.text) == (200, True)
        assert "a-password-of-ours" not in triage.text
        for path in set(PAGES[1:]) - {"/triage"}:
            answer = ana.get(path)
            assert answer.status_code == 503, path
            assert "The database does not answer" in answer.text
            assert "runbook doctor" in answer.text
            assert "a-password-of-ours" not in answer.text
        assert console.get("/functions/v1/health", None).status_code == 503
        assert "checks" in console.get("/functions/v1/health").json()


def test_a_reader_sees_every_page_and_no_form(console: RunningConsole, ana: Browser) -> None:
    rita = console.browser("rita", "read")
    for path in PAGES:
        forms = re.findall(r'<form method="post" action="([^"]*)"', rita.get(path).text)
        assert forms == ["/logout"], path


def test_how_it_is_in_words() -> None:
    def words(*verdicts: Any) -> str:
        lines = tuple(CheckLine(f"a.{n}", each, "") for n, each in enumerate(verdicts))
        return Checks(lines, True, None).in_words()  # type: ignore[arg-type]

    assert words("ok", "ok") == "The pipeline is well: 2 checks say so."
    assert words("critical", "warning", "ok").startswith("1 check is critical and 1 warns. Begin")
    assert (
        words("warning", "not_allowed")
        == "The pipeline works; 1 check warns. 1 check has nothing to go by yet."
    )
    assert words("not_enough_data").startswith("Nothing can be said")
    assert Figures().sum_of("attempts", 3) == 0


def test_a_chart_breaks_where_nothing_is_known_and_draws_its_thresholds() -> None:
    rows = [{"x": 1.0}, {"x": 2.0}, {"x": None}, {"x": 30.0}]
    drawn = lines(
        "Failures",
        rows,
        lambda row: "12:00",
        [Line("x", "failures")],
        "words <b>",
        unit=" %",
        limits=(Limit(20, "critical 20 %"),),
    )
    assert drawn.svg.count("<polyline") == 1
    assert drawn.svg.count("<circle") == 1
    assert "critical 20 %" in drawn.svg
    assert "words &lt;b&gt;" in drawn.svg
    assert drawn.rows[2][1] == "–"
    none = dict.fromkeys(("completed", "error", "lost", "left_out", "released"), 0)
    bars = outcomes(
        "Attempts", [{**none, "completed": 3, "error": 1}, none], lambda row: "", "words"
    )
    assert bars.svg.count('class="fill-') == 2
    assert "url(#stripes-error)" in bars.svg


def test_lengths_of_time_and_links_read_well() -> None:
    assert [seconds(each) for each in (0.25, 40, 600, 7200, 400_000, None)] == [
        "0.2 s",
        "40 s",
        "10 min",
        "2 h",
        "5 days",
        "–",
    ]
    assert age(None) == "–"
    assert str(prose("run `a <b>` now")) == "run <code>a &lt;b&gt;</code> now"
    assert str(prose("one ` alone <")) == "one ` alone &lt;"
    assert query({"a": 'x"&', "b": "", "c": None}) == "?a=x%22%26"
    assert TOPICS


def _completed(console: RunningConsole) -> str:
    found: str = value(
        console.database, "SELECT job_id::text FROM content_jobs WHERE status = 'completed' LIMIT 1"
    )
    return found
