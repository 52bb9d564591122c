"""Takes the posts of a set of jobs off the site, and back, as planned changes.

What decides is how a post stands at the site when the change is planned, not what our tables remember:
people edit posts too. A post that somebody changed between plan and apply, or between apply and undo,
is left as it is and reported.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from typing import Any

from runbook_lib import changes
from runbook_lib.changes import ChangedRow, Preview, SeenRow, StepwiseKind
from runbook_lib.database.connection import Database, Transaction
from runbook_lib.database.statements import load
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import CouldNotBeDone, UsageError
from runbook_lib.pipeline.failures import JobFailed
from runbook_lib.pipeline.model import Post
from runbook_lib.pipeline.operations import full_job_id
from runbook_lib.pipeline.publishing import marker_text
from runbook_lib.pipeline.retries import chosen_job_ids, chosen_moment
from runbook_lib.pipeline.wordpress import WordPressClient
from runbook_lib.pipeline.wordpress_terms import ITEMS_A_PAGE

OpenSite = Callable[[], AbstractContextManager[WordPressClient]]
STATUSES = ("publish", "future", "private", "pending", "draft")
# A post exists and our user may not see it, let alone change it.
HIDDEN = "hidden"
MOST_POSTS_EXAMINED = 50_000
_NO_POSTS = "none"
_SQL = load("posts")


@contextmanager
def site_of_settings() -> Iterator[WordPressClient]:
    """A client of the site that the settings name."""
    from runbook_lib.pipeline.providers import resolve_providers
    from runbook_lib.settings import load_settings

    settings = load_settings()
    with resolve_providers(settings) as providers:
        site = providers.wordpress
        client = WordPressClient(
            site.url,
            site.user,
            site.app_password,
            deadline_seconds=settings.runbook_wordpress_deadline_seconds,
        )
        try:
            yield client
        finally:
            client.close()


class _PostChange(StepwiseKind):
    """Gives posts another status, one by one, each read back afterwards."""

    inverse = "posts.restore"
    row_limit = 2_000
    deadline_seconds = 300
    row_deadline_seconds = 120
    # A post that cannot be changed must not keep the others up; a site that is away ends the pass.
    stop_after_failures_in_a_row = 10

    def __init__(self, open_site: OpenSite = site_of_settings) -> None:
        self._open_site = open_site

    @abstractmethod
    def _wanted(self, row: SeenRow) -> str:
        """The status that this post is to have."""

    @contextmanager
    def applier(
        self, database: Database, parameters: Mapping[str, Any], actor: str
    ) -> Iterator[Callable[[SeenRow], ChangedRow]]:
        with self._open_site() as site:
            yield lambda row: self._change(database, site, row)

    def _change(self, database: Database, site: WordPressClient, row: SeenRow) -> ChangedRow:
        deadline = Deadline.after(self.row_deadline_seconds)
        wanted, seen = self._wanted(row), row.seen["status"]
        post = _require_as_seen(site, row, wanted, deadline)
        if post.status != wanted:
            _set_status(site, post.post_id, wanted, deadline)
            post = _read_back(site, post.post_id, wanted, deadline)
        with database.transaction() as transaction:
            transaction.run(
                _SQL["store_post_status"],
                job_id=row.key.partition(":")[0],
                post_id=post.post_id,
                post_status=post.status,
                post_url=post.url,
            )
        # Against what was planned on, not against what was found: after a crash the post may have
        # been changed by this very change, and undoing must know of it.
        return ChangedRow(
            row.key,
            before={"post_id": post.post_id, "status": seen, "url": row.seen["url"]},
            after={"post_id": post.post_id, "status": post.status, "url": post.url},
            changed=seen != post.status,
        )


class _PostsOfJobs(_PostChange):
    """A change of the posts of a set of jobs; `concerned` are the live statuses that it changes."""

    target: str
    concerned: tuple[str, ...]
    parameters = {  # noqa: RUF012
        "posts": "exactly these posts, as a review names them: JOB:POST, separated by commas; or none",
        "job_ids": "the posts of these jobs, separated by commas",
        "category": "only jobs of this category",
        "since": "jobs that ended at or after this time (2026-12-31T08:00, or 2h for two hours ago)",
        "until": "jobs that ended before this time",
        "status": "only posts that stand at the site under this status",
    }

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        chosen = {name: value for name, value in given.items() if value not in (None, "", [], ())}
        if not chosen:
            raise UsageError(f"Say whose posts: give {', '.join(self.parameters)}.")
        status = chosen.get("status")
        if status is not None and status not in self.concerned:
            raise UsageError(
                f"{self.name} changes posts that are {' or '.join(self.concerned)}, not {status!r}."
            )
        now = datetime.now(UTC)
        reviewed = chosen_posts(chosen.get("posts"))
        job_ids = chosen_job_ids(chosen.get("job_ids"))
        if reviewed is not None and job_ids is not None:
            raise UsageError("Give either posts or job_ids: a reviewed set is complete by itself.")
        return {
            "posts": reviewed,
            "job_ids": job_ids,
            "category": chosen.get("category"),
            "since": chosen_moment(chosen.get("since"), now),
            "until": chosen_moment(chosen.get("until"), now),
            "status": status,
        }

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        reviewed = _by_job(parameters.get("posts"))
        rows = transaction.rows(
            _SQL["posts_of_jobs"],
            job_ids=parameters["job_ids"] if reviewed is None else list(reviewed),
            category=parameters["category"],
            since=parameters["since"],
            until=parameters["until"],
            row_count=MOST_POSTS_EXAMINED,
        )
        wanted = (parameters["status"],) if parameters["status"] else self.concerned
        deadline = Deadline.after(self.deadline_seconds * 0.9)
        found: list[SeenRow] = []
        with self._open_site() as site:
            for start in range(0, len(rows), ITEMS_A_PAGE):
                part = rows[start : start + ITEMS_A_PAGE]
                asked = [each for row in part for each in _wanted_posts(row, reviewed)]
                live = live_posts_of_all(site, [post_id for _, post_id in asked], deadline)
                found += [
                    _seen(row, post_id, live[post_id])
                    for row, post_id in asked
                    if post_id in live
                    and _status(live[post_id]) in (*wanted, HIDDEN)
                    and (post_id == row.post_id or _is_a_copy(site, row, post_id, deadline))
                ]
                if len(found) >= row_count:
                    # Beyond the limit it is refused anyway: what was not examined counts as concerned.
                    return Preview(
                        found[:row_count], len(found) + rows[0].total - start - len(part)
                    )
        return Preview(found, len(found))

    def _wanted(self, row: SeenRow) -> str:
        return self.target


class Unpublish(_PostsOfJobs):
    """Published and scheduled posts become drafts."""

    name = "posts.unpublish"
    summary = "Makes the published and scheduled posts of a set of jobs drafts."
    target = "draft"
    concerned = ("publish", "future")


class Republish(_PostsOfJobs):
    """Drafts and posts in review become published; what is private or in the trash stays."""

    name = "posts.republish"
    summary = "Publishes the drafts and the posts in review of a set of jobs."
    target = "publish"
    concerned = ("draft", "pending")


class Trash(_PostsOfJobs):
    """Posts go to the trash, from where undoing or a person restores them."""

    name = "posts.trash"
    summary = "Moves the posts of a set of jobs to the trash of the site."
    target = "trash"
    concerned = STATUSES


class Restore(_PostChange):
    """Gives posts back the status that they had before another change."""

    name = "posts.restore"
    summary = "Gives the posts that a change touched their earlier status."
    parameters = {"change": "the change that is taken back"}  # noqa: RUF012

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        if not given.get("change"):
            raise UsageError("posts.restore needs change=ID, the change to take back.")
        return dict(given)

    def preview(
        self, transaction: Transaction, parameters: Mapping[str, Any], row_count: int
    ) -> Preview:
        touched = changes.rows_changed(transaction, parameters["change"])
        rows = [
            SeenRow(
                row.key,
                seen={
                    "post_id": row.after["post_id"],
                    "status": row.after["status"],
                    "url": row.after["url"],
                    "wanted": row.before["status"],
                },
            )
            for row in touched
        ]
        return Preview(rows[:row_count], len(rows))

    def _wanted(self, row: SeenRow) -> str:
        wanted: str = row.seen["wanted"]
        return wanted


def live_posts(
    site: WordPressClient, post_ids: Sequence[int], deadline: Deadline
) -> dict[int, Post | None]:
    """How posts stand at the site, by id; None for one that our user may not see.

    A post that was deleted for good is left out.
    """
    found: dict[int, Post | None] = {
        post.post_id: post for post in site.posts_by_id(post_ids, deadline)
    }
    for post_id in [each for each in post_ids if each not in found]:
        try:
            post = site.post(post_id, deadline)
        except JobFailed as failed:
            if failed.failure.error_class != "wordpress_permission_lost":
                raise
            found[post_id] = None
        else:
            if post is not None:
                found[post_id] = post
    return found


def _status(post: Post | None) -> str:
    return HIDDEN if post is None else post.status


def live_posts_of_all(
    site: WordPressClient, post_ids: Sequence[int], deadline: Deadline
) -> dict[int, Post | None]:
    """As `live_posts`, for any number."""
    found: dict[int, Post | None] = {}
    for start in range(0, len(post_ids), ITEMS_A_PAGE):
        found |= live_posts(site, post_ids[start : start + ITEMS_A_PAGE], deadline)
    return found


def reviewed_posts(posts: Iterable[tuple[str, int]]) -> str:
    """A reviewed set of (job id, post id) as the parameter `posts` takes it."""
    return ",".join(f"{job_id}:{post_id}" for job_id, post_id in posts) or _NO_POSTS


def chosen_posts(given: Any) -> list[str] | None:
    """A reviewed set as JOB:POST, sorted; None when none was given. Raises `UsageError`."""
    if given is None or isinstance(given, list):
        return given
    if str(given).strip() == _NO_POSTS:
        return []
    found = []
    for each in str(given).split(","):
        job_id, _, post_id = each.strip().partition(":")
        if not (post_id.isascii() and post_id.isdigit()):
            raise UsageError(
                f"posts takes JOB:POST, separated by commas; {each.strip()!r} is none."
            )
        found.append(f"{full_job_id(job_id)}:{int(post_id)}")
    return sorted(set(found))


def _by_job(posts: Sequence[str] | None) -> dict[str, list[int]] | None:
    if posts is None:
        return None
    found: dict[str, list[int]] = {}
    for each in posts:
        job_id, _, post_id = each.partition(":")
        found.setdefault(job_id, []).append(int(post_id))
    return found


def _wanted_posts(row: Any, reviewed: Mapping[str, list[int]] | None) -> list[tuple[Any, int]]:
    """The job's own post, or those that a review named: its own, copies of it, or both."""
    return [(row, each) for each in ([row.post_id] if reviewed is None else reviewed[row.job_id])]


def _is_a_copy(site: WordPressClient, row: Any, post_id: int, deadline: Deadline) -> bool:
    """Whether a post carries the job's marker: nobody takes a post off that is not the job's."""
    post = site.post(post_id, deadline)
    return post is not None and marker_text(row.job_id) in post.content


def _key(row: Any, post_id: int) -> str:
    return str(row.job_id) if post_id == row.post_id else f"{row.job_id}:{post_id}"


def _seen(row: Any, post_id: int, post: Post | None) -> SeenRow:
    return SeenRow(
        _key(row, post_id),
        seen={
            "post_id": post_id,
            "status": _status(post),
            "url": row.post_url if post is None else post.url,
        },
        shown={"title": row.topic if post is None else post.title, "category": row.category},
        at=row.ended_at,
    )


def _require_as_seen(site: WordPressClient, row: SeenRow, wanted: str, deadline: Deadline) -> Post:
    post_id = row.seen["post_id"]
    if row.seen["status"] == HIDDEN:
        raise CouldNotBeDone(
            f"Post {post_id} belongs to another author, and {site.user} may not change it: "
            "an editor has to."
        )
    post = site.post(post_id, deadline)
    if post is None:
        raise CouldNotBeDone(f"Post {post_id} does not exist any more.")
    if post.status not in (row.seen["status"], wanted):
        raise CouldNotBeDone(
            f"Post {post_id} is {post.status!r} now and was {row.seen['status']!r}: somebody changed "
            "it, and it was left so."
        )
    return post


def _set_status(site: WordPressClient, post_id: int, status: str, deadline: Deadline) -> None:
    if status == "trash":
        site.trash_post(post_id, deadline)
    else:
        site.update_post(post_id, {"status": status}, deadline)


def _read_back(site: WordPressClient, post_id: int, wanted: str, deadline: Deadline) -> Post:
    post = site.post(post_id, deadline)
    # A scheduled post whose time has come meanwhile is published at once.
    expected = ("future", "publish") if wanted == "future" else (wanted,)
    if post is None or post.status not in expected:
        stands = "gone" if post is None else repr(post.status)
        raise CouldNotBeDone(f"Post {post_id} was to become {wanted!r} and is {stands}.")
    return post


for _kind in (Unpublish(), Republish(), Trash(), Restore()):
    changes.register(_kind)
