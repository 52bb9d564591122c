"""Scenes that only look alarming: nothing is to be done, and no cause is to be named."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from runbook_lib.database.statements import load
from runbook_lib.rehearsal.scene import Scene

_SQL = load("rehearsal_scenes")


def _quiet(scene: Scene) -> None:
    del scene


def _one_failed(scene: Scene) -> None:
    scene.past_runs("w", 1, 30, error_class="openai_timeout", job_status="error")


def _absorbed(scene: Scene) -> None:
    """A burst some minutes ago; each of its jobs was tried again and went well."""
    scene.past_runs("earlier-worker", 10, 2, error_class="openai_rate_limited", job_status="pending", newest_seconds=360)  # fmt: skip
    scene.past_runs("earlier-worker", 14, 20)


def _one_long(scene: Scene) -> None:
    scene.execute(_SQL["one_long_article"])
    scene.past_worker("w1", in_flight=1)


def _backlog(scene: Scene) -> None:
    scene.add(40)
    scene.past_worker("w1", in_flight=4)


def _paused_by_hand(scene: Scene) -> None:
    scene.add(4)
    scene.execute(_SQL["pause_by_hand"])
    scene.past_worker("w1")


def _deployed(scene: Scene) -> None:
    """Workers that were replaced in order: a harmless change."""
    scene.past_worker("old", heard_seconds_ago=120)
    scene.past_worker("new", pid=2, version="0.2", settings_digest="b", started_seconds_ago=120)
    scene.stop_past_worker("old")


def _our_own_rate(scene: Scene) -> None:
    """A rate that the team set: jobs wait for it, and hands are free meanwhile."""
    scene.add(6)
    scene.execute(_SQL["waiting_for_minutes"])
    scene.execute(_SQL["one_request_a_minute"])
    scene.past_worker("w1")


HEALTHY: Mapping[str, Callable[[Scene], None]] = {
    "quiet": _quiet, "one-of-a-few-failed": _one_failed, "rate-limits-absorbed": _absorbed, "one-long-article": _one_long,
    "backlog": _backlog, "paused-by-hand": _paused_by_hand, "deployed": _deployed, "our-own-rate": _our_own_rate,
}  # fmt: skip
