"""Verify, anchor, sign, export and prune on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.archived_runs import file_run
from runbook_lib.archive import chain, verify
from runbook_lib.archive.store import FolderStore, open_store
from runbook_lib.cli.archive import archive as archive_command
from runbook_lib.database import Database
from runbook_lib.errors import CouldNotBeDone, NotFoundError, UsageError
from runbook_lib.settings import Settings, load_settings


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    assert settings.database_url is not None
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(archive_command, list(arguments), standalone_mode=False)

    return call


@pytest.fixture
def store(settings: Settings) -> FolderStore:
    found = open_store(settings)
    assert isinstance(found, FolderStore)
    return found


def test_verify_answers_with_the_findings_and_its_exit_status(
    database: Database, store: FolderStore, command: Any
) -> None:
    file_run(database, store)
    clean = command("verify", "--json")
    answer = json.loads(clean.stdout)
    assert (clean.return_value, answer["entries"], answer["findings"]) == (0, 1, [])
    name = next(name for name in store.names() if name.endswith(".ipynb"))
    store.remove(name)
    found = command("verify", "--json")
    assert found.return_value == 1
    assert json.loads(found.stdout)["findings"] == [
        {"entry": 1, "kind": "removed", "detail": f"{name}: it is gone"}
    ]
    shown = command("verify")
    assert "1 entries, 1 findings." in shown.stdout
    assert "No anchor was given" in shown.stdout


def test_an_anchor_can_be_kept_in_a_file_a_tag_a_note_or_a_mail(
    database: Database, store: FolderStore, command: Any, tmp_path: Path
) -> None:
    file_run(database, store)
    repository = tmp_path / "repository"
    for arguments in (
        ["init", "-q", str(repository)],
        ["-C", str(repository), "config", "user.name", "ana"],
        ["-C", str(repository), "config", "user.email", "ana@example.org"],
        ["-C", str(repository), "commit", "-q", "--allow-empty", "-m", "first"],
    ):
        subprocess.run(["git", *arguments], check=True)
    kept = tmp_path / "anchors.txt"
    done = command(
        "anchor", "--file", str(kept), "--git-tag", str(repository), "--git-note", str(repository), "--json"
    )  # fmt: skip
    head = json.loads(done.stdout)
    assert (head["sequence"], len(head["places"])) == (1, 3)
    assert chain.head(database).sequence == 4
    file_run(database, store)
    for given in (str(kept), f"git:{repository}", f"> {head['text']} <"):
        found = command("verify", "--anchor", given, "--json")
        assert (found.return_value, json.loads(found.stdout)["anchors"][0]) == (0, head["text"])
    wrong = f"runbook-archive:{head['chain']}:9:{'0' * 64}"
    cut = json.loads(command("verify", "--anchor", wrong, "--json").stdout)["findings"]
    assert {each["kind"] for each in cut} == {"cut_off"}
    assert isinstance(command("verify", "--anchor", str(tmp_path / "none")).exception, UsageError)


def unpacked(file: Path, folder: Path) -> Path:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return folder


def checked(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """What an export's own verify.py says, run with Python alone and nothing of ours."""
    command = [sys.executable, "-I", "-S", str(folder / "verify.py"), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={}, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_an_export_of_one_run_is_checked_with_python_alone(
    database: Database, store: FolderStore, command: Any, tmp_path: Path
) -> None:
    for number in range(4):
        run_id = file_run(database, store, results={"n": number}, actions=2, actor="ana")
    file_run(database, store)
    signed = command("sign", run_id, "--meaning", "approved", "--actor", "ben", "--json")
    assert json.loads(signed.stdout)["own_run"] is False
    file = tmp_path / "auditor.zip"
    done = command("export", run_id, str(file), "--json")
    answer = json.loads(done.stdout)
    assert (done.return_value, answer["runs"], answer["complete"], answer["entries"]) == (
        0,
        1,
        2,
        3,
    )
    folder = unpacked(file, tmp_path / "unpacked")
    anchor = chain.head(database).as_text()
    assert checked(folder, "--anchor", anchor) == (0, {"entries": 3, "findings": []})
    assert len(Path(verify.__file__).read_text("utf-8").splitlines()) <= 150
    for words in (run_id, "approved", "ben", "What it does not prove"):
        assert words in (folder / "README.txt").read_text()
    assert len(list((folder / "rows" / "admin_actions").iterdir())) == 2
    assert len(list((folder / "objects").rglob("*.html"))) == 1

    page = next((folder / "objects").rglob("*.html"))
    page.chmod(0o600)
    page.write_text("altered")
    status, found = checked(folder)
    assert (status, [(each["entry"], each["kind"]) for each in found["findings"]]) == (
        1,
        [(4, "altered")],
    )
    assert isinstance(command("export", run_id, str(file)).exception, UsageError)


def test_an_export_takes_ranges(
    database: Database, store: FolderStore, command: Any, tmp_path: Path
) -> None:
    for _ in range(3):
        file_run(database, store)
    today = datetime.now(UTC).date()
    ranges = {
        "all": 3,
        "2..3": 2,
        f"{today}..{today}": 3,
        f"{today}..{today + timedelta(days=1)}": 3,
    }
    for number, (wanted, count) in enumerate(ranges.items()):
        done = command("export", wanted, str(tmp_path / f"{number}.zip"), "--json")
        assert json.loads(done.stdout)["complete"] == count, wanted
    nothing = command("export", "2020-01-01..2020-01-02", str(tmp_path / "none.zip"))
    assert isinstance(nothing.exception, NotFoundError)
    assert not (tmp_path / "none.zip").exists()


def test_an_altered_notebook_is_not_signed(
    database: Database, store: FolderStore, command: Any
) -> None:
    run_id = file_run(database, store)
    command("sign", run_id, "--meaning", "reviewed", "--note", "seen", "--actor", "tester")
    shown = json.loads(command("show", run_id, "--json").stdout)["entries"]
    assert [(each["kind"], (each["record"] or {}).get("own_run")) for each in shown] == [
        ("run", None), ("sign_off", True)
    ]  # fmt: skip
    name = next(name for name in store.names() if name.endswith(".ipynb"))
    store.remove(name)
    store.write(name, b"other")
    refused = command("sign", run_id, "--meaning", "approved")
    assert isinstance(refused.exception, CouldNotBeDone)


def test_what_policy_keeps_no_longer_is_removed_and_leaves_its_entry(
    database: Database,
    store: FolderStore,
    command: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = datetime.now(UTC) - timedelta(days=100)
    policy = tmp_path / "policy.toml"
    policy.write_text(
        "[retention]\nkeep_days = 365\n[retention.keep_days_by_procedure]\n'daily/check' = 90\n"
    )
    gone = file_run(database, store, procedure="daily/check", started_at=old)
    signed = file_run(database, store, procedure="daily/check", started_at=old)
    file_run(database, store, started_at=old)
    file_run(database, store, procedure="daily/check")
    command("sign", signed, "--meaning", "approved")
    aged = {(1, "back_dated"), (2, "back_dated"), (3, "back_dated")}

    def findings() -> set[Any]:
        found = json.loads(command("verify", "--json").stdout)["findings"]
        return {(each["entry"], each["kind"]) for each in found}

    assert findings() == aged
    assert json.loads(command("prune", "--json").stdout)["row_count"] == 0
    monkeypatch.setenv("RUNBOOK_CONFIG", str(policy))
    load_settings.cache_clear()
    plan = json.loads(command("prune", "--json").stdout)
    assert [row["key"] for row in plan["sample"]] == [gone]
    assert len([name for name in store.names() if gone in name]) == 3
    done = command("prune", "--execute", "--actor", "ana", "--reason", "too old", "--json")
    assert (done.return_value, json.loads(done.stdout)["changed"]) == (0, 1)
    assert [name for name in store.names() if gone in name] == []
    assert findings() == aged - {(1, "back_dated")}
    with database.transaction(read_only=True) as transaction:
        rows = transaction.rows("SELECT kind, record FROM archive_entries WHERE subject = %(run)s ORDER BY sequence", run=gone)  # fmt: skip
    assert [row.kind for row in rows] == ["run", "deletion"]
    assert rows[0].record is None
    assert json.loads(rows[1].record)["actor"] == "ana"
    assert isinstance(command("show", gone).exception, NotFoundError)
    exported = command("export", "1..1", str(tmp_path / "gone.zip"), "--json")
    assert exported.return_value == 0
