"""Faults of the network between the workers and what they call: by proxies of ours, and by names that do not exist."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from runbook_lib.database.statements import load
from runbook_lib.rehearsal.certificates import site_certificate
from runbook_lib.rehearsal.faults import Fault, Stage, failed_as, seen_to_work
from runbook_lib.rehearsal.links import DATABASE, EVERYTHING, OPENAI, linked
from runbook_lib.rehearsal.roles import login_fails_with
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.sandbox.proxy import NetworkProxy

_SQL = load("rehearsal_network")
UNREACHABLE_HOST = "does-not-exist.invalid"
# A worker with such leases lets a transaction take a third of it before it gives its connection up.
_LONG_LEASE_SECONDS = 120
_SILENT_SECONDS = 16.0
_CONNECTION_LIVES_SECONDS = 1.0
_FEWEST_BROKEN, _BURSTS_SECONDS = 5, 4.0
_TRUSTED = "REQUESTS_CA_BUNDLE"


# names


@contextmanager
def _no_names_of_providers(scene: Scene) -> Iterator[None]:
    with scene.working():
        seen_to_work(scene)
    _lose_names_of_providers(scene)
    scene.add(3)
    with scene.working():
        yield


@contextmanager
def _no_names_at_all(scene: Scene) -> Iterator[None]:
    """The database's name as well: the worker that was there is gone, and none can begin."""
    with scene.working():
        seen_to_work(scene)
    _lose_names_of_providers(scene)
    parts = urlsplit(scene.workers_url)
    address = parts.netloc.replace(str(parts.hostname), f"database.{UNREACHABLE_HOST}")
    scene.move(database_url=SecretStr(urlunsplit(parts._replace(netloc=address))))
    scene.add(3)
    with scene.worker_process():
        yield


def _lose_names_of_providers(scene: Scene) -> None:
    scene.move(
        openai_base_url=f"http://{UNREACHABLE_HOST}/v1",
        wordpress_url=f"http://site.{UNREACHABLE_HOST}",
    )


# connections


@contextmanager
def _half_open_to_the_database(scene: Scene) -> Iterator[None]:
    """Something in between forgets the connections to the database, and tells neither side."""
    scene.move(runbook_lease_seconds=_LONG_LEASE_SECONDS)
    with linked(scene, DATABASE) as links, scene.worker_process():
        seen_to_work(scene, seconds=60)
        scene.add(4)
        links[DATABASE].set_fault("half_open")
        yield


def _worker_is_silent(scene: Scene) -> bool:
    """Its last sign of life is old, its session is open at the server, and a new session works at once."""
    return (
        float(scene.asked(_SQL["silent_seconds"])) >= _SILENT_SECONDS
        and int(scene.asked(_SQL["open_sessions"])) >= 1
        and not login_fails_with(scene.workers_url, "")
    )


@contextmanager
def _half_open_to_openai(scene: Scene) -> Iterator[None]:
    """Connections to OpenAI are forgotten soon after they were opened: each that is used again hangs."""
    with linked(scene, OPENAI) as links, scene.working():
        seen_to_work(scene)
        links[OPENAI].set_fault("half_open", after_seconds=_CONNECTION_LIVES_SECONDS)
        scene.add(120)
        yield


def _flapping(share: float = 1.0, *, jobs: int = 300, period_seconds: float = 4.0) -> Stage:
    """For a third of each period connections to everything are reset: all of them, or a share."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        with linked(scene, *EVERYTHING) as links, scene.working(concurrency=8):
            seen_to_work(scene)
            scene.add(jobs)
            for link in links.values():
                link.set_fault(
                    "flap", down_seconds=period_seconds / 3, period_seconds=period_seconds, share=share * scene.severity
                )  # fmt: skip
            yield

    return stage


def _both_unreachable_at_times(scene: Scene) -> bool:
    """Attempts failed at either provider because a connection broke, in more than one burst, and others went
    well meanwhile: a single burst is a blip, which retries take up."""
    broken = scene.asked_row(_SQL["broken_connections"], since=scene.begun)
    return bool(
        broken.at_openai >= 1 and broken.at_the_site >= 1
        and broken.at_openai + broken.at_the_site >= _FEWEST_BROKEN
        and broken.between_seconds >= _BURSTS_SECONDS and scene.completed() >= 3
    )  # fmt: skip


# certificates


@contextmanager
def _expired_certificate(scene: Scene) -> Iterator[None]:
    """A front that speaks TLS before the site, whose certificate ended an hour ago."""
    assert scene.settings.wordpress_url is not None
    site = urlsplit(scene.settings.wordpress_url)
    with tempfile.TemporaryDirectory(prefix="runbook-certificate-") as directory:
        certificate = site_certificate(Path(directory), ends=-timedelta(hours=1))
        front = NetworkProxy(site.hostname or "", site.port or 0, secured_by=certificate.context())
        with front, _trusting(scene, certificate.authority):
            scene.move(wordpress_url=f"https://127.0.0.1:{front.port}")
            scene.add(6)
            with scene.working():
                yield


@contextmanager
def _trusting(scene: Scene, authority: Path) -> Iterator[None]:
    """Workers and whoever looks trust an authority: what they refuse is the certificate's age alone."""
    before = os.environ.get(_TRUSTED)
    os.environ[_TRUSTED] = scene.environment[_TRUSTED] = str(authority)
    try:
        yield
    finally:
        del os.environ[_TRUSTED], scene.environment[_TRUSTED]
        if before is not None:
            os.environ[_TRUSTED] = before


NETWORK_FAULTS: tuple[Fault, ...] = (
    Fault("no-names", ("dns-failure",), _no_names_of_providers, failed_as("openai_unreachable"), own_workers=True),
    Fault("no-names-at-all", ("dns-failure",), _no_names_at_all, lambda scene: login_fails_with(scene.workers_url, "translate host name"), own_workers=True),
    Fault("half-open-database", ("network-half-open",), _half_open_to_the_database, _worker_is_silent, own_workers=True),
    Fault("half-open-openai", ("network-half-open",), _half_open_to_openai, failed_as("openai_timeout", 2), own_workers=True),
    Fault("flapping", ("network-flapping",), _flapping(), _both_unreachable_at_times, own_workers=True),
    Fault("flapping-third", ("network-flapping",), _flapping(0.3, jobs=400, period_seconds=3.0), _both_unreachable_at_times, own_workers=True),
    Fault("flapping-tenth", ("network-flapping",), _flapping(0.1, jobs=2400, period_seconds=1.5), _both_unreachable_at_times, own_workers=True),
    Fault("certificate", ("wordpress-certificate-expired",), _expired_certificate, failed_as("wordpress_certificate_invalid"), own_workers=True),
)  # fmt: skip
