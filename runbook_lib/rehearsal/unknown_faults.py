"""Causes that the rules do not know, with the layers that they may be narrowed down to.

The right answer is `unknown`, with one of the layers, and no name. All of them are staged for real.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import psycopg2
from pydantic import SecretStr

from runbook_lib.database.statements import Statement, load
from runbook_lib.rehearsal import programs
from runbook_lib.rehearsal.faults import (
    Fault,
    Stage,
    failed_as,
    failures,
    sandbox_fault,
    seen_to_work,
)
from runbook_lib.rehearsal.links import DATABASE, linked
from runbook_lib.rehearsal.pooler import pooler
from runbook_lib.rehearsal.scene import Scene

_SQL = load("rehearsal_unknown")
_DATABASE_SQL = load("rehearsal_database")
_PASSWORD = "ordinary"
# As long as it takes until a person would say that nothing happens.
IDLE_SECONDS = 6.0
SLOW_LOGIN_SECONDS = 4.0
POOLER_WAIT_SECONDS = 5.0
# Since when a changed database keeps jobs from being done, as its rows say.
ONSET_MINUTES = 10


def changed(statement: Statement, *, jobs: int = 6) -> Stage:
    """Somebody changed the database some minutes ago; since then jobs come in, and none is done."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        scene.execute(_SQL["shift_the_past"], minutes=ONSET_MINUTES)
        scene.execute(statement)
        scene.execute(_SQL["jobs_of_before"], count=jobs, minutes=ONSET_MINUTES)
        yield

    return stage


def nothing_is_done(scene: Scene) -> bool:
    """Whether jobs wait, workers have had time to take them, and none was done."""
    tried = (scene.value("now") - scene.begun).total_seconds() >= IDLE_SECONDS
    return tried and scene.completed() == 0


def _asked_often(scene: Scene, times: int = 4) -> bool:
    """Whether OpenAI was asked for articles so often."""
    return sum(entry["method"] == "POST" for entry in scene.control.journal("openai")) >= times


def _written_and_not_done(scene: Scene) -> bool:
    """Whether articles were written, or even published, and no job is done."""
    return scene.completed() == 0 and (_asked_often(scene) or len(scene.control.posts()) >= 2)


@contextmanager
def _rows_hidden(scene: Scene) -> Iterator[None]:
    """The worker's role, an ordinary one, sees no job any more; those who own the tables do."""
    address = urlsplit(scene.database.url)
    role = f"hidden_{address.path[1:]}"
    url = f"postgresql://{role}:{_PASSWORD}@{address.hostname}:{address.port}{address.path}"
    scene.execute(_DATABASE_SQL["make_role"], role=role, password=_PASSWORD)
    try:
        scene.execute(_SQL["shift_the_past"], minutes=ONSET_MINUTES)
        scene.move(database_url=SecretStr(url))
        scene.execute(_SQL["rows_hidden_from_the_role"])
        scene.execute(_SQL["jobs_of_before"], count=6, minutes=ONSET_MINUTES)
        with scene.worker_process():
            yield
    finally:
        scene.execute(_DATABASE_SQL["drop_role"], role=role)


@contextmanager
def _standby_missing(scene: Scene) -> Iterator[None]:
    """The server waits with each commit for a standby that is gone."""
    assert scene.server is not None
    server = scene.server
    scene.execute(_SQL["commits_wait_for_standbys"])
    with scene.working():
        seen_to_work(scene)
        scene.add(4)
        server.outside_transactions(_SQL["name_a_standby"])
        server.outside_transactions(_SQL["read_the_configuration"])
        try:
            yield
        finally:
            server.outside_transactions(_SQL["name_no_standby"])
            server.outside_transactions(_SQL["read_the_configuration"])


def _commits_wait(scene: Scene) -> bool:
    waited = (scene.value("now") - scene.begun).total_seconds() >= IDLE_SECONDS
    return waited and scene.ask(_SQL["sessions_that_wait_for_a_standby"]) > 0


@contextmanager
def _slow_link(scene: Scene) -> Iterator[None]:
    """What goes to the database and back takes so long that a login alone takes many seconds."""
    with linked(scene, DATABASE) as links, scene.working():
        seen_to_work(scene)
        scene.add(4)
        links[DATABASE].set_fault("latency", delay_seconds=scene.chance("link").uniform(0.6, 1.2))
        yield


def _logs_in_slowly(scene: Scene) -> bool:
    begun = time.monotonic()
    with closing(psycopg2.connect(scene.workers_url)):
        return time.monotonic() - begun >= SLOW_LOGIN_SECONDS


@contextmanager
def _gone_behind_a_pooler(scene: Scene) -> Iterator[None]:
    """A pooler that goes on taking clients, in front of a server that was stopped."""
    assert scene.server is not None
    with (
        TemporaryDirectory(prefix="runbook-pooler-") as directory,
        pooler(scene.database.url, Path(directory), wait_seconds=POOLER_WAIT_SECONDS) as url,
    ):
        scene.move(database_url=SecretStr(url))
        with scene.working():
            seen_to_work(scene, seconds=60)
            scene.add(4)
            scene.server.stop()
            try:
                yield
            finally:
                scene.server.start()


def _nobody_listens(scene: Scene) -> bool:
    assert scene.server is not None
    return not scene.server.listens()


@contextmanager
def _worker_out_of_files(scene: Scene) -> Iterator[None]:
    """The worker's process may open no file and no connection any more; those that it has stay."""
    with scene.worker_process() as process:
        programs.wait_until_registered(scene, process)
        # Its connections to the providers are opened with its first job.
        open_now = len(os.listdir(f"/proc/{process.pid}/fd"))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (open_now, open_now))
        scene.add(6)
        yield


@contextmanager
def _tls_refused_by_openai(scene: Scene) -> Iterator[None]:
    """The address says https, and what answers there does not speak it."""
    scene.move(openai_base_url=str(scene.settings.openai_base_url).replace("http://", "https://"))
    with scene.working():
        scene.add()
        yield


@contextmanager
def _tls_refused_by_the_site(scene: Scene) -> Iterator[None]:
    url = str(scene.settings.wordpress_url).replace("http://", "https://")
    scene.move(wordpress_url=url)
    with scene.working():
        scene.add()
        yield


def answers(provider: str, status: int, **options: Any) -> Stage:
    return sandbox_fault(provider, "status", status=status, **options)


_GENERATE = ("generate",)
_DRAFT = ("draft", "publish")
_STORE = ("record", "data", "query", "draft", "generate")

UNKNOWN: Mapping[str, tuple[Fault, tuple[str, ...]]] = {
    fault.name: (fault, layers)
    for fault, layers in (
        # OpenAI
        (Fault("model-gone", (), sandbox_fault("openai", "model_not_found"), failed_as("openai_model_not_found")), (*_GENERATE, "configuration")),
        (Fault("country-refused", (), sandbox_fault("openai", "permission_denied"), failed_as("openai_permission_denied")), (*_GENERATE, "log in")),
        (Fault("teapot-model", (), answers("openai", 418, body="json", path="chat"), failures(3)), (*_GENERATE, "configuration")),
        (Fault("garbled-answers", (), sandbox_fault("openai", "garbled_json", path="chat"), failures(3)), (*_GENERATE, "data")),
        (Fault("resets", (), sandbox_fault("openai", "reset", path="chat"), failed_as("openai_unreachable", 3)), (*_GENERATE, "connect")),
        (Fault("conflict-model", (), answers("openai", 409, body="json", path="chat"), failures(3)), (*_GENERATE, "configuration")),
        # what stands in between
        (Fault("gateway-refuses-posts", (), answers("openai", 405, body="json", path="chat"), failures(3)), (*_GENERATE, "connect", "configuration")),
        (Fault("no-tls-at-openai", (), _tls_refused_by_openai, failures(3), own_workers=True), (*_GENERATE, "connect", "configuration")),
        (Fault("no-tls-at-the-site", (), _tls_refused_by_the_site, failures(1), own_workers=True), (*_DRAFT, "connect", "configuration")),
        # WordPress
        (Fault("garbled-site", (), sandbox_fault("wordpress", "garbled_json", method="POST"), failures(3)), _DRAFT),
        (Fault("no-app-passwords", (), sandbox_fault("wordpress", "no_application_passwords"), failures(1)), ("log in", *_DRAFT)),
        (Fault("site-changes-posts", (), sandbox_fault("wordpress", "answer_differs", fields={"title": "another"}), failures(3)), _DRAFT),
        (Fault("site-refuses-posts", (), answers("wordpress", 400, body="json", method="POST"), failures(3)), _DRAFT),
        (Fault("site-silent", (), sandbox_fault("wordpress", "black_hole"), failed_as("wordpress_timeout", 3)), (*_DRAFT, "connect")),
        (Fault("site-asks-for-less", (), answers("wordpress", 429, body="html"), failures(3)), _DRAFT),
        (Fault("upload-limit", (), answers("wordpress", 413, body="html", method="POST"), failures(3)), (*_DRAFT, "data")),
        (Fault("captcha-on-posts", (), sandbox_fault("wordpress", "html", method="POST"), failures(3)), (*_DRAFT, "connect", "configuration")),
        (Fault("site-cannot-store", (), answers("wordpress", 507, body="html", method="POST"), failures(3)), _DRAFT),
        (Fault("site-says-yes-to-nothing", (), answers("wordpress", 200, body="json", method="POST"), failures(3)), _DRAFT),
        # the worker's host
        (Fault("worker-out-of-files", (), _worker_out_of_files, failures(3), own_workers=True), ("workers", "connect", "generate")),
        # the database
        (Fault("database-far-away", (), _slow_link, _logs_in_slowly, own_workers=True), ("connect", "log in", "query")),
        (Fault("gone-behind-a-pooler", (), _gone_behind_a_pooler, _nobody_listens, own_workers=True, needs_own_server=True), ("connect", "log in", "query")),
        (Fault("standby-missing", (), _standby_missing, _commits_wait, own_workers=True, needs_own_server=True), ("record", "claim", "query", "workers")),
        (Fault("runs-trigger-raises", (), changed(_SQL["runs_trigger_that_raises"]), _written_and_not_done), (*_STORE, "publish", "claim")),
        (Fault("audit-raises", (), changed(_SQL["audit_trigger_that_raises"]), _written_and_not_done), (*_STORE, "publish")),
        (Fault("trigger-sleeps", (), changed(_SQL["slow_trigger"]), nothing_is_done), ("claim", "query", "record", "workers")),
        (Fault("rule-swallows-updates", (), changed(_SQL["rule_that_swallows_updates"]), nothing_is_done), ("claim", "query", "record", "workers")),
        (Fault("claims-are-vetoed", (), changed(_SQL["claims_are_vetoed"]), nothing_is_done), ("claim", "query", "record", "workers")),
        (Fault("articles-must-differ", (), changed(_SQL["articles_must_differ_in_model"]), _written_and_not_done), _STORE),
        (Fault("no-place-for-runs", (), changed(_SQL["no_place_for_runs"]), _written_and_not_done), (*_STORE, "publish", "claim")),
        (Fault("rows-hidden", (), _rows_hidden, nothing_is_done, own_workers=True), ("claim", "query", "data", "record", "workers", "configuration")),
    )
}  # fmt: skip
