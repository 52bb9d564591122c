"""Faults of the network between the workers and what they call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runbook_lib.rehearsal.faults import Fault, at_once
from runbook_lib.rehearsal.scene import Scene

UNREACHABLE_HOST = "does-not-exist.invalid"


@contextmanager
def _no_names(scene: Scene) -> Iterator[None]:
    scene.move(
        openai_base_url=f"http://{UNREACHABLE_HOST}/v1",
        wordpress_url=f"http://site.{UNREACHABLE_HOST}",
    )
    scene.add(3)
    with scene.working():
        scene.until(lambda: scene.failed_as("openai_unreachable") >= 1, "attempts fail", 40)
        yield


NETWORK_FAULTS: tuple[Fault, ...] = (
    Fault("no-names", ("dns-failure",), _no_names, at_once, own_workers=True),
)
