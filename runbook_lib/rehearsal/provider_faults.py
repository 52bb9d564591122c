"""Faults of OpenAI and of WordPress: switches of the sandbox, turned on while jobs come in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runbook_lib.rehearsal.faults import Fault, Shows, Stage, failed_as, sandbox_fault
from runbook_lib.rehearsal.scene import Scene

SLOW_SECONDS = 6.0


@contextmanager
def slow_model(scene: Scene) -> Iterator[None]:
    """OpenAI answers right, and slowly."""
    number = scene.control.set_fault("openai", "latency", delay_seconds=SLOW_SECONDS)
    scene.move(runbook_openai_deadline_seconds=30.0)
    scene.add(12)
    try:
        with scene.working(concurrency=6):
            scene.until(lambda: scene.completed() >= 6, "slow articles are published", 60)
            yield
    finally:
        scene.control.clear_faults(fault_id=number)


def written_slowly(seconds: float) -> Shows:
    """Whether articles took at least so long."""
    return lambda scene: bool(
        scene.value("written_slowly", since=scene.begun, seconds=seconds) >= 3
    )


def _category_deleted(*, jobs: int, others: int) -> Stage:
    """One category is gone from the site, and jobs of another one come in beside."""
    of_the_category = sandbox_fault("wordpress", "category_deleted", category="News", jobs=jobs)

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        scene.add(others, category="Guides")
        with of_the_category(scene):
            yield

    return stage


# An overload of one request in ten has no place here: clients try again within the attempt, and none fails by it.
OPENAI_FAULTS: tuple[Fault, ...] = (
    Fault("quota", ("openai-quota-exhausted",), sandbox_fault("openai", "quota"), failed_as("openai_quota_exhausted")),
    Fault("rate-limit", ("openai-rate-limited",), sandbox_fault("openai", "rate_limit", retry_after=1), failed_as("openai_rate_limited", 3)),
    Fault("rate-limit-third", ("openai-rate-limited",), sandbox_fault("openai", "rate_limit", retry_after=1, probability=0.3, jobs=24), failed_as("openai_rate_limited", 4)),
    Fault("rate-limit-tenth", ("openai-rate-limited",), sandbox_fault("openai", "rate_limit", retry_after=1, probability=0.1, jobs=150), failed_as("openai_rate_limited", 4)),
    Fault("key", ("openai-key-invalid",), sandbox_fault("openai", "invalid_key"), failed_as("openai_key_invalid")),
    Fault("overloaded", ("openai-overloaded",), sandbox_fault("openai", "overloaded"), failed_as("openai_overloaded", 4)),
    Fault("overloaded-half", ("openai-overloaded",), sandbox_fault("openai", "overloaded", probability=0.5, jobs=16), failed_as("openai_overloaded", 4)),
    Fault("overloaded-third", ("openai-overloaded",), sandbox_fault("openai", "overloaded", probability=0.3, jobs=24), failed_as("openai_overloaded", 4)),
    Fault("slow-model", ("openai-slow",), slow_model, written_slowly(SLOW_SECONDS), own_workers=True),
    Fault("black-hole-model", ("openai-stalled",), sandbox_fault("openai", "black_hole"), failed_as("openai_timeout")),
    Fault("cut-articles", ("openai-silent-bad-answers",), sandbox_fault("openai", "truncated"), failed_as("content_truncated", 3)),
    Fault("empty-answers", ("openai-silent-bad-answers",), sandbox_fault("openai", "null_content"), failed_as("content_empty", 3)),
    Fault("captive-portal", ("openai-wrong-base-url",), sandbox_fault("openai", "html"), failed_as("openai_wrong_address")),
    Fault("filtered-topic", ("openai-content-filtered",), sandbox_fault("openai", "content_filter", topic="forbidden", other_topic="forbidden garden"), failed_as("openai_content_filtered", 2)),
    Fault("long-topic", ("openai-context-too-long",), sandbox_fault("openai", "context_length", topic="endless", other_topic="endless garden"), failed_as("openai_context_too_long", 2)),
)  # fmt: skip
WORDPRESS_FAULTS: tuple[Fault, ...] = (
    Fault("login", ("wordpress-login-revoked",), sandbox_fault("wordpress", "login_revoked"), failed_as("wordpress_login_failed")),
    Fault("role-lowered", ("wordpress-permission-lost",), sandbox_fault("wordpress", "permission_lost"), failed_as("wordpress_permission_lost")),
    Fault("maintenance", ("wordpress-down",), sandbox_fault("wordpress", "maintenance"), failed_as("wordpress_rate_limited")),
    Fault("site-database", ("wordpress-down",), sandbox_fault("wordpress", "database_error"), failed_as("wordpress_unavailable", 3)),
    Fault("redirect", ("wordpress-url-redirects",), sandbox_fault("wordpress", "redirect"), failed_as("wordpress_redirected")),
    Fault("category", ("wordpress-category-missing",), sandbox_fault("wordpress", "category_deleted", category="News", jobs=4), failed_as("wordpress_category_missing", 3)),
    Fault("category-third", ("wordpress-category-missing",), _category_deleted(jobs=4, others=9), failed_as("wordpress_category_missing", 3)),
    Fault("category-tenth", ("wordpress-category-missing",), _category_deleted(jobs=4, others=36), failed_as("wordpress_category_missing", 3)),
    Fault("no-rest", ("wordpress-rest-off",), sandbox_fault("wordpress", "no_rest_api"), failed_as("wordpress_rest_off")),
    Fault("rest-forbidden", ("wordpress-rest-off",), sandbox_fault("wordpress", "rest_forbidden"), failed_as("wordpress_rest_off")),
    Fault("slow-publish", ("wordpress-slow-publish",), sandbox_fault("wordpress", "answer_lost", how="silence", silence_seconds=6.0, method="POST", path="posts"), failed_as("wordpress_outcome_unknown", 3)),
)  # fmt: skip
PROVIDER_FAULTS = (*OPENAI_FAULTS, *WORDPRESS_FAULTS)
