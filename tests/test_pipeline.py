"""The whole pipeline on a real WordPress: each topic becomes one post, and each fault ends in words that help."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from running_sandbox import RunningSandbox
from wordpress_site import WordPressSite

from runbook_lib import changes
from runbook_lib.database import Database
from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline import posts, service
from runbook_lib.pipeline.failures import FAILURE_CLASSES
from runbook_lib.pipeline.model import Post
from runbook_lib.pipeline.options import WorkerOptions
from runbook_lib.pipeline.providers import resolve_providers
from runbook_lib.pipeline.reporting import Reporter
from runbook_lib.pipeline.wordpress import WordPressClient
from runbook_lib.settings import Settings

CREATE = "POST /wp-json/wp/v2/posts"
QUICK = {
    "runbook_site_processing_seconds": 0.5,
    "runbook_lease_seconds": 5,
    "runbook_sweep_interval_seconds": 0.05,
    "runbook_idle_poll_seconds": 0.05,
    "runbook_retry_base_seconds": 0.1,
    "runbook_retry_maximum_seconds": 0.2,
    "runbook_wordpress_deadline_seconds": 5,
}


class Pipeline:
    """Settings for a real site and the sandbox's OpenAI; workers run in this process."""

    def __init__(self, database: Database, openai: RunningSandbox, site: WordPressSite) -> None:
        self.database, self.openai, self.site = database, openai, site
        self.reader = WordPressClient(
            site.url, "administrator", lambda: site.passwords["administrator"]
        )

    def settings(self, **given: Any) -> Settings:
        values: dict[str, Any] = {
            "openai_api_key": self.openai.api_key,
            "openai_base_url": f"{self.openai.url}/v1",
            "wordpress_url": self.site.url,
            "wordpress_user": "author",
            "wordpress_app_password": self.site.passwords["author"],
            **QUICK,
            **given,
        }
        return Settings(**values)

    def add(self, count: int, **columns: Any) -> None:
        columns = {"category": "News", **columns}
        names = ", ".join(columns)
        with self.database.transaction() as transaction:
            transaction.run(
                f"INSERT INTO content_jobs (topic, {names}) SELECT 'Garden tools, part ' || number, "
                f"{', '.join(f'%({name})s' for name in columns)} FROM generate_series(1, %(count)s) AS number",
                count=count,
                **columns,
            )

    def work(self, until_empty: bool = True, **given: Any) -> int:
        settings = self.settings(**given)
        options = WorkerOptions.of(settings, concurrency=3, until_empty=until_empty)
        with resolve_providers(settings) as providers:
            worker = service.make_worker(settings, self.database, providers, options, Reporter())
            return worker.run(install_signals=False)

    def work_until_done(self, **given: Any) -> None:
        until = time.monotonic() + 60
        while self.work(**given) != 0:
            assert time.monotonic() < until, [row.last_error for row in self.jobs()]
            time.sleep(0.1)

    def jobs(self) -> list[Any]:
        with self.database.transaction() as transaction:
            return transaction.rows("SELECT * FROM content_jobs ORDER BY job_id")

    def posts_of(self, job_id: object) -> list[Post]:
        found = self.reader.posts_that_hold(f"runbook-job:{job_id}", Deadline.after(10))
        return [post for post in found.posts if post.status != "trash"]

    @contextmanager
    def open_site(self) -> Iterator[WordPressClient]:
        yield WordPressClient(self.site.url, "author", lambda: self.site.passwords["author"])

    def require_each_once(self, status: str = "publish") -> None:
        for job in self.jobs():
            (post,) = self.posts_of(job.job_id)
            assert (post.status, post.post_id, job.post_status) == (status, job.post_id, status)


@pytest.fixture
def pipeline(
    database: Database, running_sandbox: RunningSandbox, wordpress: WordPressSite
) -> Iterator[Pipeline]:
    made = Pipeline(database, running_sandbox, wordpress)
    yield made
    made.reader.close()
    for kind in (posts.Unpublish, posts.Restore):
        changes.register(kind())


def test_each_topic_becomes_one_post_with_what_was_asked_for(pipeline: Pipeline) -> None:
    pipeline.add(8)
    pipeline.add(2, category="Guides", requested_post_status="draft")
    assert pipeline.work() == 0
    news = pipeline.reader.category_id("News", Deadline.after(10))
    guides = pipeline.reader.category_id("Guides", Deadline.after(10))
    author = WordPressClient(pipeline.site.url, "author", lambda: pipeline.site.passwords["author"])
    author_id = author.who_am_i(Deadline.after(10)).user_id
    for job in pipeline.jobs():
        (post,) = pipeline.posts_of(job.job_id)
        assert post.author_id == author_id
        assert post.category_ids == ((guides,) if job.category == "Guides" else (news,))
        assert post.status == ("draft" if job.category == "Guides" else "publish")
        assert str(job.job_id) in post.slug
        assert "<h2>" in post.content
        assert "## " not in post.content
        assert (job.status, job.post_url) == ("completed", post.url)


def test_answers_that_are_lost_double_nothing(pipeline: Pipeline) -> None:
    pipeline.add(6)
    pipeline.site.fault("lost", match=CREATE, times=4, status=504)
    pipeline.work_until_done()
    pipeline.require_each_once()


def test_a_site_that_goes_down_half_way_loses_nothing(pipeline: Pipeline) -> None:
    pipeline.add(12)

    def interrupt() -> None:
        while sum(job.status == "completed" for job in pipeline.jobs()) < 3:
            time.sleep(0.02)
        pipeline.site.stop()
        time.sleep(1.5)
        pipeline.site.start()

    interruption = threading.Thread(target=interrupt)
    interruption.start()
    try:
        pipeline.work_until_done()
    finally:
        interruption.join()
    pipeline.require_each_once()
    assert {job.status for job in pipeline.jobs()} == {"completed"}


def test_plain_permalinks_publish_as_well(pipeline: Pipeline) -> None:
    pipeline.add(2)
    pipeline.site.variants("plain_permalinks")
    assert pipeline.work() == 0
    pipeline.site.variants()
    pipeline.require_each_once()


def test_posts_are_unpublished_and_come_back(pipeline: Pipeline) -> None:
    pipeline.add(5)
    # A busy machine's WordPress may let an answer wait for too long: that job is done a moment later.
    pipeline.work_until_done()
    for kind in (posts.Unpublish, posts.Restore):
        changes.register(kind(pipeline.open_site))
    plan = changes.plan(pipeline.database, "posts.unpublish", {"since": "1h"}, actor="ana")
    assert plan.row_count == 5
    changes.apply(
        pipeline.database, plan.change_id, actor="ana", dry_run=False, reason="wrong figures"
    )
    pipeline.require_each_once("draft")
    undo = changes.plan_undo(pipeline.database, plan.change_id, actor="ana")
    changes.apply(
        pipeline.database, undo.change_id, actor="ana", dry_run=False, reason="they were right"
    )
    pipeline.require_each_once("publish")


def _wrong_key(pipeline: Pipeline) -> dict[str, Any]:
    return {"openai_api_key": "sk-wrong"}


def _quota(pipeline: Pipeline) -> dict[str, Any]:
    pipeline.openai.control.set_fault("openai", "quota")
    return {}


def _wrong_password(pipeline: Pipeline) -> dict[str, Any]:
    return {"wordpress_app_password": "aaaa bbbb cccc dddd eeee ffff"}


def _lost_permission(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "wordpress_user": "subscriber",
        "wordpress_app_password": pipeline.site.passwords["subscriber"],
    }


def _redirect(pipeline: Pipeline) -> dict[str, Any]:
    pipeline.site.fault(
        "answer", match=CREATE, status=301, headers={"Location": "https://www.example.test/"}
    )
    return {}


def _restricted(pipeline: Pipeline) -> dict[str, Any]:
    pipeline.site.variants("rest_forbidden")
    return {}


@pytest.mark.parametrize(
    ("arrange", "provider", "error_class", "word"),
    [
        (_wrong_key, "openai", "openai_key_invalid", "OPENAI_API_KEY"),
        (_quota, "openai", "openai_quota_exhausted", "credit"),
        (_wrong_password, "wordpress", "wordpress_login_failed", "WORDPRESS_APP_PASSWORD"),
        (_lost_permission, "wordpress", "wordpress_permission_lost", "Author or Editor"),
        (_redirect, "wordpress", "wordpress_redirected", "WORDPRESS_URL"),
        (_restricted, "wordpress", "wordpress_rest_off", "REST"),
    ],
)
def test_a_providers_fault_pauses_it_uncharged_and_says_what_to_do(
    pipeline: Pipeline,
    arrange: Callable[[Pipeline], dict[str, Any]],
    provider: str,
    error_class: str,
    word: str,
) -> None:
    pipeline.add(5)
    assert pipeline.work(**arrange(pipeline)) == 1
    with pipeline.database.transaction() as transaction:
        (pause,) = transaction.rows("SELECT * FROM provider_pauses")
    assert (pause.provider, pause.error_class) == (provider, error_class)
    assert {(job.status, job.retry_count) for job in pipeline.jobs()} == {("pending", 0)}
    assert word in FAILURE_CLASSES[error_class].advice
    # Repaired and resumed, everything goes out, once.
    pipeline.site.end_fault()
    pipeline.site.variants()
    pipeline.openai.control.clear_faults()
    with pipeline.database.transaction() as transaction:
        transaction.run("DELETE FROM provider_pauses")
    pipeline.work_until_done()
    pipeline.require_each_once()


def test_a_missing_category_ends_the_job_and_no_other(pipeline: Pipeline) -> None:
    pipeline.add(1, category="Nowhere")
    pipeline.add(2)
    assert pipeline.work() == 1
    states = {job.category: (job.status, job.error_class) for job in pipeline.jobs()}
    assert states == {
        "Nowhere": ("error", "wordpress_category_missing"),
        "News": ("completed", None),
    }
    (missing,) = [job for job in pipeline.jobs() if job.category == "Nowhere"]
    assert "'Nowhere'" in missing.last_error
    assert not pipeline.posts_of(missing.job_id)
