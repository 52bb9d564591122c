"""An archive on a disk that fills up: nothing torn, what was there stays, and it is said."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_procedures import write_procedure

from runbook_lib.archive.store import open_store
from runbook_lib.archive.verification import verify_archive
from runbook_lib.database import Database
from runbook_lib.settings import Settings, environment_without_callers

pytestmark = pytest.mark.long

ROOM = "200k"
# In a mount namespace of its own: a small disk where the archive is, and one run after another until one ends
# otherwise than well. What is on the disk is copied away, since it is gone with the namespace.
ON_A_SMALL_DISK = """
mount -t tmpfs -o size="$ROOM" tmpfs "$ARCHIVE" || exit 77
for number in 1 2 3 4 5 6 7 8; do
    "$PYTHON" -m runbook_lib.cli run fixture/prints --json 2>>"$SAID"
    status=$?
    [ "$status" = 0 ] || break
done
"$PYTHON" -m runbook_lib.cli function health >"$HEALTH" 2>&1
cp -a "$ARCHIVE/." "$COPY"
exit "$status"
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no unshare")
def test_a_full_disk_tears_nothing_and_is_said(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    procedures, home = tmp_path / "procedures", settings.runbook_home
    write_procedure(procedures, "fixture/prints", "print('x' * 20_000)")
    archive, copy, said, health = home / "archive", tmp_path / "copy", tmp_path / "said", tmp_path / "health"  # fmt: skip
    archive.mkdir(parents=True)
    copy.mkdir()
    assert settings.database_url is not None
    environment = {
        **environment_without_callers(home), "DATABASE_URL": settings.database_url.get_secret_value(),
        "RUNBOOK_PROCEDURES": str(procedures), "ARCHIVE": str(archive), "COPY": str(copy), "ROOM": ROOM,
        "SAID": str(said), "HEALTH": str(health), "PYTHON": sys.executable,
    }  # fmt: skip
    answer = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", ON_A_SMALL_DISK],
        env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if answer.returncode == 77 or "unshare" in answer.stderr:
        pytest.skip(f"no disk can be mounted here: {answer.stderr.strip()}")
    assert answer.returncode == 3, answer.stdout + answer.stderr
    assert "No space left" in said.read_text()
    well = [line for line in answer.stdout.splitlines() if '"succeeded"' in line]
    assert well, answer.stdout
    assert "archive" in health.read_text()
    shutil.copytree(copy, archive, dirs_exist_ok=True)
    assert not [path for path in archive.rglob("*") if path.is_file() and not path.stat().st_size]
    with database.transaction(read_only=True) as transaction:
        runs = transaction.rows(
            "SELECT status, archive_notebook FROM notebook_runs ORDER BY started_at"
        )
    assert [run.status for run in runs[:-1]] == ["succeeded"] * len(well)
    assert verify_archive(database, open_store(settings), settings).findings == []
