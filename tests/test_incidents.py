"""An incident from its alert to its post-mortem: what is copied, counted, drafted, archived and never shown."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import uuid
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fixture_procedures import write_procedure

from runbook_lib import known_secrets
from runbook_lib.archive.entries import find_entry
from runbook_lib.archive.store import open_store
from runbook_lib.archive.verification import verify_archive
from runbook_lib.changes import admin_action
from runbook_lib.cli.incident import incident as command
from runbook_lib.cli.procedures import whole_incident_id
from runbook_lib.database import Database
from runbook_lib.errors import UsageError
from runbook_lib.health.context import Context, open_context
from runbook_lib.incidents import copies, drafts, lab, records
from runbook_lib.incidents.closing import close_incident
from runbook_lib.incidents.facts import gather_facts
from runbook_lib.incidents.impact import measure_impact
from runbook_lib.incidents.records import Incident
from runbook_lib.incidents.timeline import TimelineEntry, read_timeline, write_entry
from runbook_lib.incidents.vendor_bundle import write_bundle
from runbook_lib.settings import Settings, load_settings
from runbook_lib.spool import open_spool

SECRET = "an-old-but-secret-word-4711"
NOW = datetime.now(UTC)


@pytest.fixture
def settings(database: Database, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:  # fmt: skip
    folder = tmp_path / "procedures"
    write_procedure(folder, "fixture/looks", "days", "1 + 1", parameters="days = 7")
    for name, value in {"DATABASE_URL": database.url, "RUNBOOK_PROCEDURES": str(folder),
                        "RUNBOOK_ACTOR": "ana"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    load_settings.cache_clear()
    return load_settings()


@pytest.fixture
def context(settings: Settings) -> Any:
    with open_context(settings) as context:
        yield context


def opened(context: Context, actor: str = "ana", *, minutes_ago: float = 60, **options: Any) -> Incident:  # fmt: skip
    began = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    made = records.new_incident("Nothing goes out", "critical", actor, actor, began_at=began, **options)  # fmt: skip
    records.open_incident(context.sources.bookkeeping, open_spool(context.settings), made)
    return made


def asked(*arguments: str) -> Any:
    """The JSON answer of a command that succeeded."""
    answer = CliRunner().invoke(command, [*arguments, "--json"], standalone_mode=False)
    assert answer.exception is None, answer.exception
    return json.loads(answer.stdout)


def execute(context: Context, found: Incident, actor: str, notebook: str, number: int, **went: Any) -> TimelineEntry:  # fmt: skip
    """An entry as a kernel writes it, and the output that a lab saves in the copy."""
    folder = copies.folder_of(context.settings, found.incident, actor)
    assert folder is not None
    path = folder / f"{notebook}.ipynb"
    held = json.loads(path.read_text())
    cell = [each for each in held["cells"] if each["cell_type"] == "code"][number - 1]
    output = f"password={SECRET}"
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": output}]
    cell["execution_count"] = number
    path.write_text(json.dumps(held))
    entry = TimelineEntry(
        "cell", actor, found.incident, status="started", notebook=notebook, cell_id=cell["id"],
        run_id=records.run_of_copy(found.incident, actor, notebook), cell_number=number, cell_count=3,
    ).ended("succeeded", 0.1, **went)  # fmt: skip
    with context.sources.bookkeeping.transaction() as transaction:
        write_entry(transaction, entry.as_record(), filed_late=False)
    return entry


def add_alert(database: Database, cause: str = "queue.oldest", **evidence: Any) -> str:
    alert_id = str(uuid.uuid4())
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO alerts (alert_id, cause, status, severity, level, since, opened_at, last_seen_at, evidence) "
            "VALUES (%(alert_id)s, %(cause)s, 'open', 'critical', 1, %(since)s, now(), now(), %(evidence)s)",
            alert_id=alert_id, cause=cause, since=NOW - timedelta(minutes=20), evidence=json.dumps(evidence),
        )  # fmt: skip
    return alert_id


# --- opening


def test_an_alert_opens_its_procedure_with_its_parameters_filled_in(
    database: Database, settings: Settings
) -> None:
    alert = add_alert(database, message="Jobs wait.", procedure="fixture/looks", parameters={"days": 3})  # fmt: skip
    answer = asked("open", "--alert", alert[:8], "--lead", "ben")
    (found,) = asked("list")
    assert (found["title"], found["severity"], found["lead"], found["cause"]) == (
        "Jobs wait.", "critical", "ben", "queue.oldest",
    )  # fmt: skip
    assert datetime.fromisoformat(found["began_at"]) == NOW - timedelta(minutes=20)
    notebook = json.loads(Path(answer["opens"]).read_text())
    (filled,) = [cell for cell in notebook["cells"] if "injected-parameters" in cell["metadata"].get("tags", [])]  # fmt: skip
    assert "".join(filled["source"]) == "days = 3"
    assert Path(answer["folder"], "daily/health_check.ipynb").is_file()
    assert answer["link"] is None
    assert answer["notices"] == []


def test_what_the_alert_says_and_the_procedure_does_not_take_is_said_and_changes_nothing(
    database: Database, settings: Settings
) -> None:
    alert = add_alert(database, message="x", procedure="fixture/looks", parameters={"weeks": 1})
    answer = asked("open", "--alert", alert)
    assert "There is no parameter 'weeks'" in answer["notices"][0]
    assert "injected" not in Path(answer["opens"]).read_text()
    alert = add_alert(database, "other", message="y", procedure="emergency/gone")
    assert "There is no procedure" in asked("open", "--alert", alert)["notices"][0]


def test_each_responder_has_copies_of_their_own_and_joining_again_keeps_them(
    settings: Settings,
) -> None:
    first = asked("open", "--title", "Slow", "--severity", "minor")
    letters = first["incident"][-5:]
    other = asked("join", letters, "--actor", "Ána")
    assert first["folder"] != other["folder"]
    changed = Path(other["folder"], "fixture/looks.ipynb")
    changed.write_text(changed.read_text().replace("1 + 1", "1 + 2"))
    again = asked("join", letters, "--actor", "Ána")
    assert (again["folder"], changed.read_text().count("1 + 2")) == (other["folder"], 1)
    asked("note", letters, "It is", "the key.")
    more = asked("copy", letters, "looks", "-p", "days=2", "--actor", "Ána")
    assert Path(more["opens"]).name == "looks-2.ipynb" or "days = 2" in Path(more["opens"]).read_text()  # fmt: skip
    kinds = [(each["kind"], each["actor"]) for each in asked("show", letters)["timeline"]]
    assert kinds == [("opened", "ana"), ("joined", "Ána"), ("note", "ana")]


def test_an_incident_opens_while_the_database_is_away_and_is_filed_afterwards(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asked("open", "--title", "It began earlier", "--severity", "minor")
    monkeypatch.setenv("DATABASE_URL", "postgresql://runbook:hidden-word@127.0.0.1:1/runbook")
    load_settings.cache_clear()
    assert asked("note", before["incident"][-5:], "Now the database is gone, too.")["waits"]
    assert asked("join", before["incident"], "--actor", "ben")["waits"]
    answer = asked("open", "--title", "The database is gone", "--severity", "critical")
    assert answer["waits"]
    asked("note", answer["incident"], "Called the provider.")
    said = asked("update", answer["incident"])["text"]
    assert "The database is away" in said
    assert "Called the provider." in said
    assert open_spool(settings).file(database).problem is None
    found = records.find_incident(database, answer["incident"])
    assert found.filed_late
    assert [each["said"] for each in read_timeline(database, found.incident)][1:] == ["Called the provider."]  # fmt: skip
    assert [each["kind"] for each in read_timeline(database, before["incident"])] == ["opened", "note", "joined"]  # fmt: skip


def test_a_run_belongs_to_an_incident_that_is_named_by_its_letters(
    context: Context, settings: Settings
) -> None:
    found = opened(context)
    assert whole_incident_id(found.incident[-5:], settings) == found.incident
    assert whole_incident_id("TICKET-7", settings) == "TICKET-7"


def test_what_is_no_incident_is_refused_in_words(context: Context) -> None:
    for options in ({"title": "  "}, {"severity": "terrible"}, {"actor": ""},
                    {"began_at": datetime.now(UTC) + timedelta(hours=1)}):  # fmt: skip
        given: dict[str, Any] = {"title": "t", "severity": "minor", "lead": "ana", "actor": "ana", **options}  # fmt: skip
        with pytest.raises(UsageError):
            records.new_incident(**given)
    with pytest.raises(UsageError, match="no incident's id"):
        records.find_incident(context.sources.bookkeeping, "x' OR 1")


# --- what it did


def add_history(database: Database) -> None:
    """In the last hour: two jobs failed (one was published since), one late, one topic published twice."""
    with database.transaction() as transaction:
        for topic, status, made, done in (
            ("recovered", "completed", 10, 1), ("given up", "error", 10, None), ("late", "completed", 50, 2),
            ("twice", "completed", 8, 6), (" Twice", "completed", 8, 5),
        ):  # fmt: skip
            transaction.run(
                "INSERT INTO content_jobs (topic, status, created_at, completed_at, post_id) VALUES "
                "(%(topic)s, %(status)s, now() - make_interval(mins => %(made)s), now() - make_interval(mins => %(done)s), 1)",
                topic=topic, status=status, made=made, done=done,
            )  # fmt: skip
        transaction.run(
            "INSERT INTO job_runs (job_id, attempt, status, execution_time, provider, http_status, request_id, error_class, error, cost_usd) "
            "SELECT job_id, 1, 'error', now() - interval '9 minutes', 'openai', 429, '=req_' || topic, 'openai_quota_exhausted', "
            "'Incorrect key sk-proj-abcdefghijklmnop', 0.01 FROM content_jobs WHERE topic IN ('recovered', 'given up') "
            "UNION ALL SELECT job_id, 2, 'completed', completed_at, NULL, NULL, NULL, NULL, NULL, 0.02 FROM content_jobs WHERE status = 'completed'"
        )  # fmt: skip


def test_the_impact_counts_what_the_history_holds(context: Context) -> None:
    add_history(context.sources.bookkeeping)
    impact = measure_impact(context.sources, context.policy, NOW - timedelta(hours=1), datetime.now(UTC))  # fmt: skip
    assert {each.name: each.value for each in impact.lines} == {
        "jobs failed": 2, "of them published since": 1, "of them waiting": 0, "of them given up": 1,
        "attempts failed": 2, "jobs late": 1, "posts doubled": 1, "posts published wrong": 0,
        "cost": 0.1, "cost of failed attempts": 0.02,
    }  # fmt: skip
    assert impact.causes[0]["error_class"] == "openai_quota_exhausted"
    assert "jobs failed" in impact._repr_html_()


def test_a_figure_that_cannot_be_read_says_why(context: Context) -> None:
    with context.sources.bookkeeping.transaction() as transaction:
        transaction.run("ALTER TABLE job_runs RENAME COLUMN tokens TO pieces")
    impact = measure_impact(context.sources, context.policy, NOW - timedelta(hours=1), NOW)
    assert impact.value("jobs failed") is None
    assert "tokens" in impact.lines[0].why
    assert impact.value("jobs late") == 0


def test_a_vendor_gets_times_and_request_ids_and_no_secret(context: Context) -> None:
    add_history(context.sources.bookkeeping)
    bundle = write_bundle(context, opened(context), "openai")
    assert (bundle.requests, bundle.with_request_id) == (2, 2)
    with zipfile.ZipFile(bundle.path) as held:
        texts = {name: held.read(name).decode() for name in held.namelist()}
    rows = list(csv.DictReader(io.StringIO(texts["requests.csv"])))
    assert {row["request_id"] for row in rows} == {"'=req_recovered", "'=req_given up"}
    assert {row["http_status"] for row in rows} == {"429"}
    assert "sk-proj" not in "".join(texts.values())
    assert "[masked]" in texts["answers.json"]
    assert "https://help.openai.com" in texts["README.md"]
    assert write_bundle(context, opened(context), "supabase").requests == 0
    with pytest.raises(UsageError, match="none of the policy's vendors"):
        write_bundle(context, opened(context), "nobody")


# --- closing


def test_closing_archives_the_copies_as_they_were_run_and_drafts_the_post_mortem(
    context: Context,
) -> None:
    database, settings = context.sources.bookkeeping, context.settings
    known_secrets.register(SECRET, "a test's secret")
    add_history(database)
    found = opened(context)
    copies.make_copies(settings, found.incident, "ana", "fixture/looks", {"days": 3})
    execute(context, found, "ana", "fixture/looks", 1)
    entry = execute(context, found, "ana", "fixture/looks", 2, verdict="critical", said="Jobs wait <script>")  # fmt: skip
    records.add_entry(database, open_spool(settings), found.incident, "note", "ben", f"The key was {SECRET}")  # fmt: skip
    with admin_action(database, actor="ana", action="pause_provider", target="openai") as action:
        action.before, action.after = {"paused": False}, {"paused": True}
    closed = close_incident(context, found.incident, "ana", "The key was renewed.")
    (run_id,) = closed.runs
    run = find_entry(database, run_id)
    assert run_id == entry.run_id
    assert (run["procedure"], run["actor"], run["incident"], run["trigger"], run["verdict"]) == (
        "fixture/looks", "ana", found.incident, "incident", "critical",
    )  # fmt: skip
    assert run["parameters"] == {"days": 3}
    assert (run["status"], run["error"]) == ("failed", "Only 2 of 4 cells ran.")
    text, page = closed.post_mortem.read_text(), closed.page.read_text()
    for said in ("of them given up | 1", "action |  | pause provider openai (done)", "pause_provider openai", '"paused": true', "The key was renewed.",
                 f"runbook archive open {run_id}", "openai_quota_exhausted"):  # fmt: skip
        assert said in text, said
    assert "<script" not in page
    assert "Nothing goes out" in page
    store = open_store(settings)
    everything = b"".join(store.read(name) for name in store.names())
    assert SECRET.encode() not in everything + text.encode() + page.encode()
    assert b'"kind":"incident"' in everything
    assert verify_archive(database, store, settings).findings == []
    assert read_timeline(database, found.incident)[-1]["said"] == "Closed: The key was renewed."
    with pytest.raises(UsageError, match="was closed by ana"):
        close_incident(context, found.incident, "ben", "Again.")


def test_a_closing_that_was_killed_in_the_middle_is_gone_on_with(context: Context) -> None:
    database, settings, store = context.sources.bookkeeping, context.settings, open_store(context.settings)  # fmt: skip
    found = opened(context)
    copies.make_copies(settings, found.incident, "ana")
    first = execute(context, found, "ana", "fixture/looks", 1)
    # What is there when the process dies after it wrote its objects and before it entered them.
    stem = f"fixture/looks/{first.at:%Y-%m-%dT%H%M%SZ}-{first.run_id}"
    store.write(f"{stem}.ipynb", b"{}")
    store.write(f"incidents/{found.incident}/post_mortem.md", b"half")
    assert len(verify_archive(database, store, settings).findings) == 2
    assert close_incident(context, found.incident, "ana", "Well again.").notices == ()
    assert verify_archive(database, store, settings).findings == []
    altered = store.address(f"incidents/{found.incident}/timeline.json")
    Path(altered).chmod(0o600)
    Path(altered).write_text("[]")
    assert [each["kind"] for each in verify_archive(database, store, settings).findings] == ["altered"]  # fmt: skip


def test_an_update_and_a_hand_over_say_what_is_recorded_and_nothing_that_acts(
    context: Context,
) -> None:
    add_history(context.sources.bookkeeping)
    add_alert(context.sources.bookkeeping, message="Jobs wait.")
    found = opened(context, alert=None)
    spool = open_spool(context.settings)
    records.add_entry(context.sources.bookkeeping, spool, found.incident, "note", "ben", "a | b\n<img src=x> [l](http://e.org)")  # fmt: skip
    facts = gather_facts(context, found)
    update = drafts.stakeholder_update(facts)
    assert "jobs failed 2" in update
    assert "openai_quota_exhausted (2 attempts of 2 jobs)" in update
    handed = drafts.hand_over(facts, "cyd")
    assert "queue.oldest since" in handed
    assert r"a \| b \<img src=x\> \[l\](http://e.org)" in handed
    assert f"runbook incident join {found.incident}" in handed


# --- the lab


def test_the_lab_opens_procedures_read_only_and_copies_to_work_in(settings: Settings) -> None:
    from tornado.web import HTTPError

    from runbook_lib.incidents.lab_contents import ProceduresAndCopies

    answer = asked("open", "--title", "Slow", "--severity", "minor")
    contents = ProceduresAndCopies(root_dir=str(lab.prepare(settings)))
    kept = "notebooks/daily/health_check.ipynb"
    mine = f"incidents/{Path(answer['folder']).relative_to(copies.incidents_folder(settings))}/fixture/looks.ipynb"

    async def work() -> None:
        model = await contents.get(kept)
        assert not model["writable"]
        for attempt in (contents.save(dict(model), kept), contents.delete_file(kept), contents.trust_notebook(kept),
                        contents.rename_file(kept, "incidents/x.ipynb"), contents.rename_file(mine, "notebooks/x.ipynb"),
                        contents.create_checkpoint(kept), contents.new_untitled("notebooks/daily", "notebook"),
                        contents.copy(kept)):  # fmt: skip
            with pytest.raises(HTTPError, match="not edited in place"):
                await attempt
        model = await contents.get(mine)
        assert model["writable"]
        await contents.save({**model, "path": mine}, mine)

    before = {path: path.stat().st_mtime_ns for path in Path("notebooks").rglob("*")}
    asyncio.run(work())
    assert {path: path.stat().st_mtime_ns for path in Path("notebooks").rglob("*")} == before


def test_the_lab_is_started_on_loopback_with_its_token_and_without_a_shell(
    settings: Settings,
) -> None:
    options = " ".join(lab.command(settings, browser=False))
    for option in ("ServerApp.ip=127.0.0.1", "terminals_enabled=False", "news_url=None", "NeverCheckForUpdate"):  # fmt: skip
        assert option in options
    assert "token" not in options
    environment = lab.environment(settings, {"JUPYTER_TOKEN": "", "PATH": "/bin"})
    assert "JUPYTER_TOKEN" not in environment
    assert environment["PATH"] == "/bin"
