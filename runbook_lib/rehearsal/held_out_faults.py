"""Faults that were added after the rules were made: how triage does where nobody tuned it.

Each as in the catalogue, or, for a cause that no rule knows, with the layers that it may be narrowed to. What
is mended after a look at one of them moves to the catalogue, or to the unknown ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runbook_lib.rehearsal.faults import Fault, failed_as, failures, sandbox_fault, seen_to_work
from runbook_lib.rehearsal.links import WORDPRESS, linked
from runbook_lib.rehearsal.provider_faults import written_slowly
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.rehearsal.unknown_faults import answers

_SLOW_SECONDS = 4.5


@contextmanager
def _site_refuses_connections(scene: Scene) -> Iterator[None]:
    """Nothing listens at the site's port any more."""
    with linked(scene, WORDPRESS) as links, scene.working():
        seen_to_work(scene)
        # Connections that are open end first.
        links[WORDPRESS].set_fault("reset")
        links[WORDPRESS].set_fault("refuse")
        scene.add(8)
        yield


@contextmanager
def _slower_by_some_seconds(scene: Scene) -> Iterator[None]:
    """A model that takes a few times as long, well within its deadline, at a concurrency of two."""
    number = scene.control.set_fault("openai", "latency", delay_seconds=_SLOW_SECONDS)
    scene.move(runbook_openai_deadline_seconds=60.0)
    scene.add(10)
    try:
        with scene.working(concurrency=2):
            scene.until(lambda: scene.completed() >= 6, "slow articles are published", 60)
            yield
    finally:
        scene.control.clear_faults(fault_id=number)


# A fault, and where its `truth` is empty the layers that are right.
HELD_OUT: tuple[tuple[Fault, tuple[str, ...]], ...] = (
    (Fault("site-refuses-connections", ("wordpress-down",), _site_refuses_connections, failed_as("wordpress_unreachable", 3), own_workers=True), ()),
    (Fault("bad-gateway-at-openai", ("openai-overloaded",), answers("openai", 502, body="html"), failed_as("openai_overloaded", 4)), ()),
    (Fault("asked-to-wait-for-minutes", ("openai-rate-limited",), sandbox_fault("openai", "rate_limit", retry_after=180), failed_as("openai_rate_limited")), ()),
    (Fault("slower-by-some-seconds", ("openai-slow",), _slower_by_some_seconds, written_slowly(_SLOW_SECONDS), own_workers=True), ()),
    (Fault("legal-reasons", (), answers("openai", 451, body="json", path="chat"), failures(3)), ("generate", "log in", "configuration")),
    (Fault("wall-before-posts", (), answers("wordpress", 403, body="html", method="POST"), failures(1)), ("draft", "publish", "log in", "connect")),
    (Fault("posts-gone", (), answers("wordpress", 410, body="json", method="POST"), failures(3)), ("draft", "publish", "configuration")),
)  # fmt: skip
