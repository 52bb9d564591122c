"""Faults of the database, its server and the network take hold: by their own oracles, and whatever triage says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg2
import pytest
from pydantic import SecretStr
from running_sandbox import RunningSandbox

from runbook_lib.database import Database
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.health.context import open_context
from runbook_lib.rehearsal.catalogue import BY_NAME
from runbook_lib.rehearsal.database_faults import DATABASE_FAULTS
from runbook_lib.rehearsal.faults import Fault
from runbook_lib.rehearsal.laboratory import Laboratory, laboratory
from runbook_lib.rehearsal.network_faults import NETWORK_FAULTS
from runbook_lib.rehearsal.provider_faults import PROVIDER_FAULTS
from runbook_lib.rehearsal.roles import login_fails_with
from runbook_lib.rehearsal.scene import QUICK, Scene
from runbook_lib.rehearsal.server import own_server
from runbook_lib.rehearsal.server_faults import SERVER_FAULTS
from runbook_lib.settings import Settings
from runbook_lib.triage.diagnosis import diagnose_context

# A lock and a role.
FEW = ("db-writes-locked", "db-role-limit")


@pytest.fixture
def scene(database: Database, running_sandbox: RunningSandbox, home: Path) -> Scene:
    settings = Settings(
        database_url=SecretStr(database.url), runbook_home=home,
        openai_api_key=SecretStr(running_sandbox.api_key), openai_base_url=f"{running_sandbox.url}/v1",
        wordpress_url=running_sandbox.url, wordpress_user=running_sandbox.user,
        wordpress_app_password=SecretStr(running_sandbox.app_password), **QUICK,
    )  # fmt: skip
    running_sandbox.control.ensure_categories(["News", "Guides"])
    return Scene(database, settings, running_sandbox.control)


@pytest.mark.parametrize("name", FEW)
def test_a_fault_shows_while_it_is_staged_and_never_without_it(name: str, scene: Scene) -> None:
    fault = BY_NAME[name]
    with ExitStack() as stack:
        if not fault.own_workers:
            stack.enter_context(scene.working())
        assert not fault.shows(scene)
        with fault.stage(scene):
            scene.until(lambda: fault.shows(scene), "it takes hold")


@pytest.mark.long
def test_a_server_of_a_scene_is_killed_and_frozen_and_comes_back_where_it_was(
    tmp_path: Path,
) -> None:
    with own_server(tmp_path / "own") as server:
        address, pid = server.url, server.pid
        assert server.listens()
        server.kill()
        assert not server.listens()
        server.start()
        assert (server.url, server.pid == pid) == (address, False)
        server.freeze()
        assert server.listens()
        assert login_fails_with(address, "timeout expired")
        server.thaw()
        psycopg2.connect(address).close()
    assert not (tmp_path / "own").exists()


@pytest.fixture(scope="module")
def own_laboratory() -> Iterator[Laboratory]:
    with laboratory() as found:
        yield found


@pytest.mark.long
@pytest.mark.parametrize(
    "fault",
    [*SERVER_FAULTS, *DATABASE_FAULTS, *NETWORK_FAULTS, *PROVIDER_FAULTS],
    ids=lambda fault: fault.name,
)
def test_every_fault_takes_hold_and_triage_says_something(
    fault: Fault, own_laboratory: Laboratory, capsys: pytest.CaptureFixture[str]
) -> None:
    """What triage says is printed, and judged by `make rehearsals`."""
    with own_laboratory.scene(1, fault) as scene, ExitStack() as stack:
        if not fault.own_workers:
            stack.enter_context(scene.working())
        try:
            stack.enter_context(fault.stage(scene))
        except CouldNotBeDone as reason:
            pytest.skip(str(reason))
        scene.until(lambda: fault.shows(scene), "it takes hold", 60)
        with open_context(scene.looking, require_schema=False) as context:
            found = diagnose_context(context)
    with capsys.disabled():
        print(f"{fault.name}: {found.verdict} {[each.cause.id for each in found.causes]}")
    assert found.verdict in ("fault", "watch", "unknown", "healthy")
