"""Causes that the rules do not know, with the layers that they may be narrowed down to."""

from __future__ import annotations

from collections.abc import Mapping

from runbook_lib.database.statements import load
from runbook_lib.rehearsal.faults import (
    Fault,
    arranged,
    at_once,
    failed_as,
    failures,
    sandbox_fault,
)
from runbook_lib.rehearsal.scene import Scene

_SQL = load("rehearsal_scenes")


def _unexpected(scene: Scene) -> None:
    """Attempts that failed as nothing that the code knows."""
    scene.past_runs("any", 8, 3, error_class="unexpected_error", job_status="pending")
    scene.execute(_SQL["pending_failed_as"], error_class="unexpected_error")
    scene.past_worker("any", in_flight=4)


UNKNOWN: Mapping[str, tuple[Fault, tuple[str, ...]]] = {
    fault.name: (fault, layers)
    for fault, layers in (
        (Fault("model-gone", (), sandbox_fault("openai", "model_not_found"), failed_as("openai_model_not_found")), ("generate",)),
        (Fault("country-refused", (), sandbox_fault("openai", "permission_denied"), failed_as("openai_permission_denied")), ("generate", "log in")),
        (Fault("teapot-model", (), sandbox_fault("openai", "status", status=418, body="json", path="chat"), failures(3)), ("generate", "configuration")),
        (Fault("garbled-answers", (), sandbox_fault("openai", "garbled_json", path="chat"), failures(3)), ("generate", "data")),
        (Fault("resets", (), sandbox_fault("openai", "reset", path="chat"), failed_as("openai_unreachable", 3)), ("generate", "connect")),
        (Fault("garbled-site", (), sandbox_fault("wordpress", "garbled_json", method="POST"), failures(3)), ("publish", "draft")),
        (Fault("no-app-passwords", (), sandbox_fault("wordpress", "no_application_passwords"), failures(1)), ("log in", "publish")),
        (Fault("site-changes-posts", (), sandbox_fault("wordpress", "answer_differs", fields={"title": "another"}), failures(3)), ("publish", "draft")),
        (Fault("site-refuses-posts", (), sandbox_fault("wordpress", "status", status=400, body="json", method="POST"), failures(3)), ("publish", "draft")),
        (Fault("unexpected", (), arranged(_unexpected), at_once, own_workers=True), ("generate", "publish", "record")),
    )
}  # fmt: skip
