"""Verify and anchor on the command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.archived_runs import file_run
from runbook_lib.archive import chain
from runbook_lib.archive.store import FolderStore, open_store
from runbook_lib.cli.archive import archive as archive_command
from runbook_lib.database import Database
from runbook_lib.errors import UsageError
from runbook_lib.settings import Settings


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
