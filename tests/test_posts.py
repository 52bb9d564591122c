"""Posts of a set of jobs leave the site and come back exactly as they were, on a real WordPress."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from wordpress_site import WordPressSite

from runbook_lib import changes
from runbook_lib.database import Database
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import PlanRefused, UsageError
from runbook_lib.pipeline import posts
from runbook_lib.pipeline.model import Post
from runbook_lib.pipeline.wordpress import WordPressClient

ADD_JOB = """
INSERT INTO content_jobs
    (topic, category, status, completed_at, post_id, post_status, post_url, worker, lease_until)
VALUES (%(topic)s, %(category)s, %(status)s, now() - make_interval(hours => %(hours)s), %(post_id)s,
    'publish', 'an old address',
    CASE WHEN %(status)s = 'processing' THEN 'w' END, CASE WHEN %(status)s = 'processing' THEN now() END)
RETURNING job_id::text
"""


class Pipeline:
    """A database with ended jobs, and their posts at a real site."""

    def __init__(self, server: WordPressSite, database: Database) -> None:
        self.server, self.database = server, database
        self.site = self._client("author")
        self.administrator = self._client("administrator")
        self.interrupt_after: int | None = None
        for kind in (posts.Unpublish, posts.Republish, posts.Trash, posts.Restore):
            changes.register(kind(self.open_site))

    def _client(self, login: str) -> WordPressClient:
        return WordPressClient(self.server.url, login, lambda: self.server.passwords[login])

    @contextmanager
    def open_site(self) -> Iterator[WordPressClient]:
        if self.interrupt_after is None:
            yield self.site
        else:
            yield _Interrupted(self.site, self.interrupt_after)  # type: ignore[misc]

    def add(self, topic: str, *, status: str = "completed", post_status: str = "publish", hours: int = 1, category: str = "News", client: WordPressClient | None = None) -> tuple[str, int]:  # fmt: skip
        """A job and its post; returns (job id, post id)."""
        fields = {
            "status": post_status,
            "title": topic,
            "slug": topic,
            "content": f"<p>{topic}</p>",
        }
        if post_status == "future":
            fields["date"] = "2099-01-01T08:00:00"
        post = (client or self.site).create_post(fields, soon())
        with self.database.transaction() as transaction:
            job_id = transaction.value(
                ADD_JOB,
                topic=topic,
                category=category,
                status=status,
                hours=hours,
                post_id=post.post_id,
            )
        return job_id, post.post_id

    def plan(self, kind: str, **parameters: Any) -> changes.Plan:
        return changes.plan(self.database, kind, parameters, actor="ana")

    def apply(self, plan: changes.Plan) -> changes.ChangeResult:
        return changes.apply(
            self.database, plan.change_id, actor="ana", dry_run=False, reason="wrong facts"
        )

    def live(self, *post_ids: int) -> list[str]:
        """How the posts stand at the site, seen by its administrator."""
        found = {
            post.post_id: post.status for post in self.administrator.posts_by_id(post_ids, soon())
        }
        return [found.get(post_id, "absent") for post_id in post_ids]

    def remembered(self, *job_ids: str) -> list[str]:
        """What our table says of the jobs' posts."""
        with self.database.transaction(read_only=True) as transaction:
            rows = transaction.rows("SELECT job_id::text, post_status FROM content_jobs")
        statuses = {row.job_id: row.post_status for row in rows}
        return [statuses[job_id] for job_id in job_ids]


class _Interrupted:
    """A client whose process dies right after its n-th post was changed, before that is recorded."""

    def __init__(self, site: WordPressClient, posts_until_then: int) -> None:
        self._site, self._left = site, posts_until_then

    def __getattr__(self, name: str) -> Any:
        return getattr(self._site, name)

    def update_post(self, *arguments: Any) -> Post | None:
        post = self._site.update_post(*arguments)
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt
        return post


def soon() -> Deadline:
    return Deadline.after(60)


@pytest.fixture
def pipeline(wordpress: WordPressSite, database: Database) -> Iterator[Pipeline]:
    made = Pipeline(wordpress, database)
    yield made
    made.site.close()
    made.administrator.close()
    for kind in (posts.Unpublish, posts.Republish, posts.Trash, posts.Restore):
        changes.register(kind())


def test_unpublishing_and_undoing_it_brings_each_post_back_as_it_was(pipeline: Pipeline) -> None:
    published, scheduled = pipeline.add("one"), pipeline.add("two", post_status="future")
    drafted = pipeline.add("three", post_status="draft")
    job_ids, post_ids = zip(published, scheduled, drafted, strict=True)
    plan = pipeline.plan("posts.unpublish", since="2h")
    assert plan.row_count == 2
    result = pipeline.apply(plan)
    assert (result.status, result.changed) == ("applied", 2)
    assert pipeline.live(*post_ids) == ["draft", "draft", "draft"]
    assert pipeline.remembered(*job_ids[:2]) == ["draft", "draft"]
    undo = changes.plan_undo(pipeline.database, plan.change_id, actor="ana")
    assert pipeline.apply(undo).changed == 2
    assert pipeline.live(*post_ids) == ["publish", "future", "draft"]
    assert pipeline.remembered(*job_ids[:2]) == ["publish", "future"]


def test_the_plan_shows_titles_addresses_and_how_the_posts_stand_now(pipeline: Pipeline) -> None:
    job_id, post_id = pipeline.add("one")
    pipeline.administrator.update_post(post_id, {"title": "Renamed by an editor"}, soon())
    (row,) = pipeline.plan("posts.unpublish", category="news").sample
    assert (row["key"], row["title"], row["status"]) == (job_id, "Renamed by an editor", "publish")
    assert row["url"] == f"{pipeline.server.url}/one/"
    assert pipeline.live(post_id) == ["publish"]  # a plan changes nothing


def test_trashing_can_be_undone(pipeline: Pipeline) -> None:
    published, drafted = pipeline.add("one"), pipeline.add("two", post_status="draft")
    plan = pipeline.plan("posts.trash", job_ids=[published[0], drafted[0]])
    assert pipeline.apply(plan).changed == 2
    assert pipeline.live(published[1], drafted[1]) == ["trash", "trash"]
    assert pipeline.remembered(published[0]) == ["trash"]
    pipeline.apply(changes.plan_undo(pipeline.database, plan.change_id, actor="ana"))
    assert pipeline.live(published[1], drafted[1]) == ["publish", "draft"]
    restored = pipeline.site.post(published[1], soon())
    assert restored is not None
    assert restored.slug == "one"


def test_republishing_publishes_drafts_and_leaves_private_and_trashed_posts(
    pipeline: Pipeline,
) -> None:
    drafted, private, trashed = (
        pipeline.add(name, post_status="draft") for name in ("one", "two", "three")
    )
    pipeline.administrator.update_post(private[1], {"status": "private"}, soon())
    pipeline.administrator.trash_post(trashed[1], soon())
    assert pipeline.apply(pipeline.plan("posts.republish", since="1d")).changed == 1
    assert pipeline.live(drafted[1], private[1], trashed[1]) == ["publish", "private", "trash"]


def test_the_set_is_chosen_by_ids_category_time_and_live_status(pipeline: Pipeline) -> None:
    news, guides = pipeline.add("one"), pipeline.add("two", category="Guides")
    old, scheduled = pipeline.add("three", hours=50), pipeline.add("four", post_status="future")

    def chosen(**parameters: Any) -> set[str]:
        return {row["key"] for row in pipeline.plan("posts.unpublish", **parameters).sample}

    assert chosen(job_ids=[news[0], old[0]]) == {news[0], old[0]}
    assert chosen(category="guides") == {guides[0]}
    assert chosen(until="2d") == {old[0]}
    assert chosen(since="2d") == {news[0], guides[0], scheduled[0]}
    assert chosen(status="future") == {scheduled[0]}


@pytest.mark.parametrize(
    "parameters", [{}, {"status": "draft"}, {"job_ids": ["no id"]}, {"since": "soon"}]
)
def test_a_set_that_means_nothing_is_refused(
    pipeline: Pipeline, parameters: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        pipeline.plan("posts.unpublish", **parameters)


def test_posts_of_jobs_that_a_worker_has_are_left_to_it(pipeline: Pipeline) -> None:
    pipeline.add("one", status="processing")
    pipeline.add("two", status="pending")
    assert pipeline.plan("posts.unpublish", since="1d").row_count == 0


def test_posts_that_cannot_be_changed_are_reported_and_do_not_stop_the_others(
    pipeline: Pipeline,
) -> None:
    first = pipeline.add("one", hours=5)
    theirs = [
        pipeline.add(name, hours=4, client=pipeline._client("second-author"))
        for name in ("two", "three", "four", "five")
    ]
    deleted, last = pipeline.add("six", hours=3), pipeline.add("seven", hours=2)
    pipeline.administrator._connection.request(
        "DELETE", f"posts/{deleted[1]}", soon(), query={"force": "true"}
    )
    result = pipeline.apply(pipeline.plan("posts.unpublish", since="1d"))
    assert (result.status, result.changed, result.failed, result.left) == ("failed", 2, 4, 0)
    assert "belongs to another author" in result.failures[0]["error"]
    assert (
        pipeline.live(first[1], last[1], *(post_id for _, post_id in theirs))
        == ["draft"] * 2 + ["publish"] * 4
    )


def test_after_an_interruption_the_change_goes_on_and_undo_still_knows_every_post(
    pipeline: Pipeline,
) -> None:
    added = [pipeline.add(f"post-{number}") for number in range(4)]
    post_ids = [post_id for _, post_id in added]
    plan = pipeline.plan("posts.unpublish", since="1d")
    pipeline.interrupt_after = 2
    with pytest.raises(KeyboardInterrupt):
        pipeline.apply(plan)
    assert sorted(pipeline.live(*post_ids)) == ["draft", "draft", "publish", "publish"]
    pipeline.interrupt_after = None
    result = pipeline.apply(plan)
    assert (result.status, result.changed) == ("applied", 4)
    assert pipeline.live(*post_ids) == ["draft"] * 4
    pipeline.apply(changes.plan_undo(pipeline.database, plan.change_id, actor="ana"))
    assert pipeline.live(*post_ids) == ["publish"] * 4


def test_a_post_that_somebody_changed_since_the_plan_makes_it_refused(pipeline: Pipeline) -> None:
    _, post_id = pipeline.add("one")
    plan = pipeline.plan("posts.unpublish", since="1d")
    pipeline.administrator.update_post(post_id, {"status": "private"}, soon())
    with pytest.raises(PlanRefused):
        pipeline.apply(plan)
    assert pipeline.live(post_id) == ["private"]


def test_undoing_leaves_what_somebody_changed_since_and_says_so(pipeline: Pipeline) -> None:
    kept, changed = pipeline.add("one"), pipeline.add("two")
    plan = pipeline.plan("posts.unpublish", since="1d")
    pipeline.apply(plan)
    pipeline.administrator.trash_post(changed[1], soon())
    result = pipeline.apply(changes.plan_undo(pipeline.database, plan.change_id, actor="ana"))
    assert (result.changed, result.failed) == (1, 1)
    assert "somebody changed it" in result.failures[0]["error"]
    assert pipeline.live(kept[1], changed[1]) == ["publish", "trash"]


def test_what_was_done_stands_in_admin_actions(pipeline: Pipeline) -> None:
    pipeline.add("one")
    plan = pipeline.plan("posts.unpublish", since="1d")
    pipeline.apply(plan)
    with pipeline.database.transaction(read_only=True) as transaction:
        row = transaction.row(
            "SELECT * FROM admin_actions WHERE change_id = %(id)s", id=plan.change_id
        )
        (changed,) = changes.rows_changed(transaction, plan.change_id)
    assert row is not None
    assert (row.actor, row.action, row.outcome, row.reason) == (
        "ana",
        "posts.unpublish",
        "done",
        "wrong facts",
    )
    assert (changed.before["status"], changed.after["status"]) == ("publish", "draft")


def test_the_command_plans_applies_and_undoes(pipeline: Pipeline) -> None:
    job_id, post_id = pipeline.add("one")
    runbook = _runbook(pipeline)
    planned = runbook("posts", "unpublish", "--job", job_id)
    assert (planned["row_count"], pipeline.live(post_id)) == (1, ["publish"])
    done = runbook(
        "posts",
        "unpublish",
        "--where",
        "category=news",
        "--since",
        "2h",
        "--execute",
        "--reason",
        "wrong",
    )
    assert (done["changed"], pipeline.live(post_id)) == (1, ["draft"])
    undo = runbook("changes", "undo", done["change_id"])
    assert runbook("changes", "apply", undo["change_id"], "--execute")["changed"] == 1
    assert pipeline.live(post_id) == ["publish"]
    assert runbook("posts", "trash", "--job", job_id, "--execute")["changed"] == 1
    assert runbook("posts", "unpublish", "--job", job_id, "--execute")["changed"] == 0


def _runbook(pipeline: Pipeline) -> Callable[..., Any]:
    """The command as people call it, against this pipeline's database and site; answers its JSON."""
    environment = os.environ | {
        "DATABASE_URL": pipeline.database.url,
        "WORDPRESS_URL": pipeline.server.url,
        "WORDPRESS_USER": "author",
        "WORDPRESS_APP_PASSWORD": pipeline.server.passwords["author"],
        "OPENAI_API_KEY": "sk-not-used-here",
    }

    def run(*arguments: str) -> Any:
        command = [sys.executable, "-m", "runbook_lib.cli", *arguments, "--actor", "ana", "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
