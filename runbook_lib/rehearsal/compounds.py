"""Two faults at once, as they come in life: both must be named, and the one must not explain the other away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from runbook_lib.rehearsal.configuration_faults import CONFIGURATION_FAULTS
from runbook_lib.rehearsal.database_faults import DATABASE_FAULTS
from runbook_lib.rehearsal.faults import Fault, Shows, Stage, failed_as, sandbox_fault, together
from runbook_lib.rehearsal.provider_faults import PROVIDER_FAULTS
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.rehearsal.time_faults import TIME_FAULTS
from runbook_lib.rehearsal.worker_faults import (
    WORKER_FAULTS,
    robs_the_living,
    slow_model_and_eager_sweeper,
)

STRIKE_SECONDS = 60.0
_ALONE = {
    fault.name: fault
    for fault in (
        *DATABASE_FAULTS, *PROVIDER_FAULTS, *WORKER_FAULTS, *TIME_FAULTS, *CONFIGURATION_FAULTS,
    )
}  # fmt: skip


def _pair(first: str, second: str) -> Iterator[Fault]:
    """Two faults of the catalogue, the first of which has struck before the second comes.

    Nothing where one of them cannot be staged here.
    """
    if first not in _ALONE or second not in _ALONE:
        return
    one, other = _ALONE[first], _ALONE[second]
    own_workers = one.own_workers or other.own_workers
    yield Fault(
        f"{first}+{second}", (*one.truth, *other.truth), together(_struck(one, own_workers), other.stage),
        _both_show(one, other), own_workers=own_workers, needs_own_server=one.needs_own_server or other.needs_own_server,
    )  # fmt: skip


def _struck(fault: Fault, own_workers: bool) -> Stage:
    """A fault that has taken hold; one that the ordinary worker meets lends itself one for as long as it takes."""

    @contextmanager
    def stage(scene: Scene) -> Iterator[None]:
        with fault.stage(scene):
            with ExitStack() as stack:
                if own_workers and not fault.own_workers:
                    stack.enter_context(scene.working())
                scene.until(lambda: fault.shows(scene), f"{fault.name} strikes", STRIKE_SECONDS)
            yield

    return stage


def _both_show(one: Fault, other: Fault) -> Shows:
    return lambda scene: one.shows(scene) and other.shows(scene)


COMPOUNDS: tuple[Fault, ...] = (
    Fault("slow+eager", ("openai-slow", "sweeper-too-eager"), slow_model_and_eager_sweeper, robs_the_living, own_workers=True),
    Fault("quota+login", ("openai-quota-exhausted", "wordpress-login-revoked"), together(sandbox_fault("wordpress", "login_revoked", first=True), sandbox_fault("openai", "quota")),
          failed_as("openai_quota_exhausted")),
    # a provider, and a worker
    *_pair("login", "worker"),
    *_pair("maintenance", "frozen-worker"),
    *_pair("filtered-topic", "worker-of-two"),
    *_pair("maintenance", "poison"),
    *_pair("login", "old-key"),
    *_pair("role-lowered", "no-worker"),
    # clocks and the scheduler, and something else
    *_pair("clock", "scheduler"),
    *_pair("clock-behind", "login"),
    *_pair("overloaded", "scheduler"),
    *_pair("rate-limit", "scheduler-frozen"),
    # the database, and a provider
    *_pair("maintenance", "db-index"),
    *_pair("db-index", "key"),
    # two providers
    *_pair("category", "key"),
)  # fmt: skip
