"""Scenes that only look alarming: nothing is to be done, and no cause is to be named.

Where a scene is about workers and answers, these are real ones; rows put there by hand are the past, and what
a scheduler says of itself.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg2

from runbook_lib.database.statements import load
from runbook_lib.health.context import open_context
from runbook_lib.health.rollup import refresh
from runbook_lib.pipeline import brakes
from runbook_lib.pipeline.operations import cancel_job
from runbook_lib.pipeline.service import APPLICATION_NAME
from runbook_lib.rehearsal.scene import Scene

_SQL = load("rehearsal_healthy")
PERSON = "ana"
A_WEEK, A_YEAR = 7, 364
Arrange = Callable[[Scene, random.Random], AbstractContextManager[None]]


@dataclass(frozen=True)
class HealthyScene:
    """One scene. What it does is drawn anew for each seed. Without a `past` the system has just been set up."""

    name: str
    stage: Arrange
    past: bool = True


@contextmanager
def _a_worker(scene: Scene) -> Iterator[None]:
    """A worker that has told of itself."""
    with scene.working():
        scene.until(lambda: _alive(scene) >= 1, "a worker is there")
        yield


def _alive(scene: Scene) -> int:
    with scene.database.transaction(read_only=True) as transaction:
        return int(transaction.value(_SQL["workers_alive"]))


# nothing much happens


@contextmanager
def _idle(scene: Scene, chance: random.Random) -> Iterator[None]:
    """A worker, and nothing to do."""
    del chance
    with _a_worker(scene):
        yield


@contextmanager
def _nobody_and_nothing(scene: Scene, chance: random.Random) -> Iterator[None]:
    """No worker and no job."""
    del scene, chance
    yield


@contextmanager
def _first_jobs(scene: Scene, chance: random.Random) -> Iterator[None]:
    """The first jobs of a new system, without a history to compare with."""
    count = chance.randint(1, 4)
    with scene.working():
        scene.add(count)
        scene.until(lambda: scene.completed() >= count, "the first articles are published")
        yield


def _gap(gap_days_ago: int) -> Arrange:
    """Nothing since yesterday, as at the same time of some day before: a week ago, or a year."""

    @contextmanager
    def stage(scene: Scene, chance: random.Random) -> Iterator[None]:
        scene.execute(
            _SQL["weeks_of_attempts"], days=35, every_hours=chance.choice((0.5, 1.0)),
            gap_hours=chance.randint(14, 20), gap_days_ago=gap_days_ago,
        )  # fmt: skip
        with open_context(scene.settings, require_schema=False) as context:
            refresh(context.sources)
        if gap_days_ago > A_WEEK:
            scene.execute(_SQL["last_years_slots"])
        with _a_worker(scene):
            yield

    return stage


# much happens, and it is dealt with


@contextmanager
def _backlog(scene: Scene, chance: random.Random) -> Iterator[None]:
    """Many jobs came at once, and are worked on."""
    with scene.working(concurrency=2):
        scene.add(chance.randint(40, 120))
        scene.until(lambda: scene.completed() >= 6, "some are published")
        yield


@contextmanager
def _planned_for_later(scene: Scene, chance: random.Random) -> Iterator[None]:
    """Jobs that wait because they are for tomorrow."""
    scene.execute(_SQL["jobs_for_later"], count=chance.randint(3, 200), hours=chance.randint(2, 30))
    with _a_worker(scene):
        yield


def _absorbed(provider: str, kind: str, strikes: tuple[int, int], **options: object) -> Arrange:
    """Some requests failed; each job was tried again and went well, and it is over."""

    @contextmanager
    def stage(scene: Scene, chance: random.Random) -> Iterator[None]:
        scene.move(runbook_pause_after_failures_in_a_row=1000)
        count = chance.randint(*strikes)
        scene.control.set_fault(provider, kind, count=count, **options)
        with scene.working():
            scene.add(16)
            scene.until(lambda: scene.completed() >= 16, "all are published", 60)
            yield

    return stage


def _healed(resumed: bool) -> Arrange:
    """The site was out of order, once or twice, and works again; jobs that it put off wait for their time, or
    somebody has resumed it."""

    @contextmanager
    def stage(scene: Scene, chance: random.Random) -> Iterator[None]:
        kind = chance.choice(("maintenance", "rest_forbidden", "permission_lost"))
        with scene.working():
            for _ in range(chance.randint(1, 2)):
                _out_of_order_and_healed(scene, kind, resumed)
            yield

    return stage


def _out_of_order_and_healed(scene: Scene, kind: str, resumed: bool) -> None:
    failed, done = scene.failures(), scene.completed()
    number = scene.control.set_fault("wordpress", kind)
    scene.add(6)
    scene.until(lambda: scene.failures() > failed, "an attempt failed", 30)
    scene.control.clear_faults(fault_id=number)
    if resumed:
        brakes.resume(scene.database, ["wordpress"], actor=PERSON)
    scene.add(14)

    def published() -> bool:
        # An attempt that was under way may have paused it once more.
        scene.execute(_SQL["pauses_ended"])
        return scene.completed() >= done + 14

    scene.until(published, "others are published", 60)


def _one_just_now(kind: str, **options: object) -> Arrange:
    """The newest attempt failed, and will be tried again: the first of many, or the only one."""

    @contextmanager
    def stage(scene: Scene, chance: random.Random) -> Iterator[None]:
        before = chance.randint(3, 8)
        with scene.working(concurrency=1):
            scene.add(before)
            scene.until(lambda: scene.completed() >= before, "some are published")
            scene.control.set_fault("openai", kind, count=1, **options)
            scene.add(1)
            scene.until(lambda: scene.failures() >= 1, "one failed")
            yield

    return stage


@contextmanager
def _few_jobs_one_failed(scene: Scene, chance: random.Random) -> Iterator[None]:
    """Three jobs today, and one of them ended in error."""
    scene.past(count=3, hours=6, newest_seconds=chance.randint(600, 3000), noise_percent=0)
    scene.execute(
        _SQL["old_failures"], count=1, hours=chance.uniform(0.5, 5), lost_count=0,
        error_class=chance.choice(("openai_timeout", "wordpress_timeout", "content_too_short")),
    )  # fmt: skip
    with _a_worker(scene):
        yield


@contextmanager
def _one_long_article(scene: Scene, chance: random.Random) -> Iterator[None]:
    """One article takes some times as long as usual, within its deadline; the others do not."""
    scene.move(runbook_openai_deadline_seconds=60.0, runbook_lease_seconds=60)
    scene.control.set_fault("openai", "latency", count=1, delay_seconds=chance.uniform(3.5, 5))
    with scene.working():
        scene.add(5)
        scene.until(lambda: scene.completed() >= 4, "the others are published")
        yield


def _ended_before(error_class: str, hours: tuple[float, float], lost_count: int = 0) -> Arrange:
    """Jobs that failed some time ago; since then all goes well."""

    @contextmanager
    def stage(scene: Scene, chance: random.Random) -> Iterator[None]:
        scene.execute(
            _SQL["old_failures"], count=1 if lost_count else chance.randint(3, 10), hours=chance.uniform(*hours),
            error_class=error_class, lost_count=lost_count,
        )  # fmt: skip
        with scene.working():
            scene.add(4)
            scene.until(lambda: scene.completed() >= 4, "new ones are published")
            yield

    return stage


# what people do


@contextmanager
def _paused_by_hand(scene: Scene, chance: random.Random) -> Iterator[None]:
    until = datetime.now(UTC) + timedelta(minutes=chance.randint(10, 90))
    provider = chance.choice(("openai", "wordpress"))
    brakes.pause(scene.database, [provider], actor=PERSON, reason="planned work", until=until)
    with _a_worker(scene):
        scene.add(chance.randint(2, 6))
        yield


@contextmanager
def _our_own_rate(scene: Scene, chance: random.Random) -> Iterator[None]:
    """A rate that the team set: jobs wait for it, and hands are free meanwhile."""
    brakes.set_limits(
        scene.database, "openai", {"requests_per_minute": chance.randint(1, 3)}, actor=PERSON
    )
    with scene.working():
        scene.add(8)
        scene.until(lambda: scene.completed() >= 1, "one is published")
        yield


@contextmanager
def _cancelled(scene: Scene, chance: random.Random) -> Iterator[None]:
    """Somebody cancelled jobs that nobody wanted any more."""
    scene.add(8)
    with scene.database.transaction(read_only=True) as transaction:
        chosen = transaction.rows(_SQL["pending_ids"], count=chance.randint(2, 6))
    for row in chosen:
        cancel_job(scene.database, row.job_id, actor=PERSON, reason="not wanted any more")
    with scene.working():
        scene.until(lambda: scene.completed() >= 8 - len(chosen), "the others are published")
        yield


@contextmanager
def _replaced(scene: Scene, chance: random.Random) -> Iterator[None]:
    """A release: the old worker is stopped in order, then the new one begins."""
    with scene.working():
        scene.add(3)
        scene.until(lambda: scene.completed() >= 3, "the old one works")
    with scene.working(concurrency=chance.randint(2, 5)):
        scene.add(3)
        scene.until(lambda: scene.completed() >= 6, "the new one works")
        yield


@contextmanager
def _half_stopped(scene: Scene, chance: random.Random) -> Iterator[None]:
    """Half of the workers were stopped in order; the rest is enough."""
    with scene.working(), ExitStack() as others:
        for _ in range(chance.randint(1, 2)):
            others.enter_context(scene.working())
        scene.add(6)
        scene.until(lambda: scene.completed() >= 6, "all work")
        others.close()
        scene.add(2)
        scene.until(lambda: scene.completed() >= 8, "the rest works")
        yield


@contextmanager
def _drained(scene: Scene, chance: random.Random) -> Iterator[None]:
    """A worker was asked to finish and end; the other goes on."""
    with scene.working(), scene.working() as leaving:
        scene.add(4)
        scene.until(lambda: scene.completed() >= 4, "both work")
        brakes.drain_worker(scene.database, leaving.name, actor=PERSON, reason="its host is moved")
        scene.add(chance.randint(1, 4))
        scene.until(lambda: scene.counts().pending == 0, "the rest is taken")
        yield


@contextmanager
def _planned_maintenance(scene: Scene, chance: random.Random) -> Iterator[None]:
    """A window that the policy records: the workers are stopped, and jobs wait."""
    with TemporaryDirectory() as directory:
        now = datetime.now(UTC)
        begin, end = now - timedelta(minutes=chance.randint(2, 50)), now + timedelta(hours=1)
        policy = Path(directory) / "policy.toml"
        policy.write_text(
            f'[[maintenance_windows]]\nbegin = {begin.isoformat()}\nend = {end.isoformat()}\nreason = "the host is moved"\n',
            "utf-8",
        )
        scene.move(runbook_config=policy)
        with scene.working():
            scene.add(2)
            scene.until(lambda: scene.completed() >= 2, "two are published")
        scene.add(chance.randint(5, 30))
        yield


@contextmanager
def _late_report(scene: Scene, chance: random.Random) -> Iterator[None]:
    """A report is late because a long one runs before it."""
    scene.execute(_SQL["scheduler_at_a_long_report"], minutes=chance.randint(1, 10))
    with _a_worker(scene):
        yield


# what the server shows


@contextmanager
def _idle_pool(scene: Scene, chance: random.Random) -> Iterator[None]:
    """Some sixty of a hundred connections are open and idle, as pools keep them."""
    with scene.working(), ExitStack() as stack:
        for number in range(chance.randint(55, 65)):
            name = APPLICATION_NAME if number % 2 else "web"
            session = psycopg2.connect(scene.database.url, application_name=name)
            stack.callback(session.close)
            session.autocommit = True
        yield


@contextmanager
def _tiny_tables_scanned(scene: Scene, chance: random.Random) -> Iterator[None]:
    """Small tables are read as a whole, again and again; that is the quickest way."""
    with scene.database.transaction(read_only=True) as transaction:
        for _ in range(chance.randint(200, 600)):
            transaction.value(_SQL["read_every_job"])
    with _a_worker(scene):
        yield


@contextmanager
def _cold_cache(scene: Scene, chance: random.Random) -> Iterator[None]:
    """What a restart leaves behind: counters at nothing, and few hits."""
    scene.execute(_SQL["forget_statistics"])
    with scene.working():
        scene.add(chance.randint(2, 4))
        scene.until(lambda: scene.completed() >= 2, "articles are published")
        yield


@contextmanager
def _long_report(scene: Scene, chance: random.Random) -> Iterator[None]:
    """Somebody's report has run for some seconds; it locks nothing."""
    session = psycopg2.connect(scene.database.url, application_name="monthly report")
    running = threading.Thread(
        target=_asked, args=(session, chance.uniform(20, 40)), name="report", daemon=True
    )
    try:
        with scene.working():
            running.start()
            scene.add(4)
            scene.until(lambda: scene.completed() >= 4, "articles are published")
            yield
    finally:
        session.cancel()
        running.join(10)
        session.close()


def _asked(session: psycopg2.extensions.connection, seconds: float) -> None:
    """Asks a question that is cancelled at the end of the scene."""
    try:
        with session.cursor() as cursor:
            cursor.execute(str(_SQL["long_question"]), {"seconds": seconds})
    except psycopg2.Error:
        return


@contextmanager
def _reader_in_a_transaction(scene: Scene, chance: random.Random) -> Iterator[None]:
    """Somebody has read something in a transaction and went for coffee; it holds back nobody."""
    session = psycopg2.connect(scene.database.url, application_name="somebody's console")
    try:
        with session.cursor() as cursor:
            cursor.execute(str(_SQL["read_every_job"]), {})
        with scene.working():
            count = chance.randint(3, 6)
            scene.add(count)
            scene.until(lambda: scene.completed() >= count, "articles are published")
            yield
    finally:
        session.close()


@contextmanager
def _clock_a_second_off(scene: Scene, chance: random.Random) -> Iterator[None]:
    """A worker elsewhere whose clock is a second off: no clock is exact."""
    scene.past_worker("elsewhere", clock_offset_seconds=chance.choice((-1.0, 1.0)))
    with scene.working():
        scene.add(3)
        scene.until(lambda: scene.completed() >= 3, "articles are published")
        yield


HEALTHY: Mapping[str, HealthyScene] = {
    scene.name: scene
    for scene in (
        HealthyScene("idle", _idle),
        HealthyScene("few-jobs-one-failed", _few_jobs_one_failed, past=False),
        HealthyScene("quiet-day-as-last-week", _gap(A_WEEK), past=False),
        HealthyScene("quiet-day-as-last-year", _gap(A_YEAR), past=False),
        HealthyScene("one-long-article", _one_long_article),
        HealthyScene("planned-maintenance", _planned_maintenance),
        HealthyScene("rate-limits-absorbed", _absorbed("openai", "rate_limit", (3, 6), retry_after=1)),
        HealthyScene("overload-absorbed", _absorbed("openai", "overloaded", (2, 4))),
        HealthyScene("rate-limited-just-now", _one_just_now("rate_limit", retry_after=8)),
        HealthyScene("overloaded-just-now", _one_just_now("overloaded")),
        HealthyScene("network-blip", _absorbed("openai", "reset", (1, 2), path="chat")),
        HealthyScene("healed-and-resumed", _healed(resumed=True)),
        HealthyScene("healed-by-itself", _healed(resumed=False)),
        HealthyScene("site-blip", _absorbed("wordpress", "database_error", (1, 2))),
        HealthyScene("idle-pooled-connections", _idle_pool),
        HealthyScene("scans-of-a-tiny-table", _tiny_tables_scanned),
        HealthyScene("cold-cache", _cold_cache),
        HealthyScene("report-late-behind-another", _late_report),
        HealthyScene("just-set-up", _nobody_and_nothing, past=False),
        HealthyScene("first-jobs", _first_jobs, past=False),
        HealthyScene("backlog", _backlog),
        HealthyScene("planned-for-later", _planned_for_later),
        HealthyScene("paused-by-hand", _paused_by_hand),
        HealthyScene("our-own-rate", _our_own_rate),
        HealthyScene("cancelled-jobs", _cancelled),
        HealthyScene("release", _replaced),
        HealthyScene("half-of-the-workers-stopped", _half_stopped),
        HealthyScene("drained-worker", _drained),
        HealthyScene("quarantined-last-week", _ended_before("quarantined", (150, 180), lost_count=3)),
        HealthyScene("failed-this-morning", _ended_before("openai_quota_exhausted", (3, 6))),
        HealthyScene("failed-yesterday", _ended_before("wordpress_login_failed", (20, 30))),
        HealthyScene("long-report", _long_report),
        HealthyScene("reader-in-a-transaction", _reader_in_a_transaction),
        HealthyScene("clock-a-second-off", _clock_a_second_off),
    )
}  # fmt: skip
