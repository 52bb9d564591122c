"""The posts of our jobs: what our books say, how the site shows them, and which jobs it shows twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import RunbookError
from runbook_lib.health.sources import Sources
from runbook_lib.maintenance.post_faults import PUBLIC, Standing, Text, Written
from runbook_lib.pipeline.failures import JobFailed
from runbook_lib.pipeline.model import Post
from runbook_lib.pipeline.posts import HIDDEN, live_posts, site_of_settings
from runbook_lib.pipeline.rendering import visible_text
from runbook_lib.pipeline.wordpress import WordPressClient
from runbook_lib.pipeline.wordpress_terms import ITEMS_A_PAGE

OpenSite = Callable[[], AbstractContextManager[WordPressClient]]
NEEDS = ("jobs.post_id",)
EARLIER_DAYS = 90
MOST_EARLIER = 5_000
MOST_PAGES = 100
# The site dates posts in a zone of its own, and a person may date one back.
DATE_MARGIN = timedelta(days=2)
_MARKER = re.compile(r"<!-- runbook-job:([0-9a-f-]{36}) -->")
_SQL = load("content_review")


@dataclass(frozen=True)
class Published:
    """One job's post. `live` is the site's answer; None where it is gone or nobody could look."""

    job_id: str
    job_status: str
    topic: str
    category: str | None
    post_id: int
    recorded: str | None
    url: str | None
    ended_at: datetime
    written: Written | None = None
    model: str | None = None
    taken_off: str | None = None
    live: Post | None = None
    live_status: str | None = ""
    text: Text | None = None

    @property
    def is_public(self) -> bool:
        """Whether readers see it, or will; where nobody could look, what our books say."""
        return (self.live_status or self.recorded or "publish") in PUBLIC

    @property
    def standing(self) -> Standing:
        seen = "" if self.live_status == HIDDEN else self.live_status
        return Standing(self.job_status, self.recorded, seen, self.taken_off)


@dataclass(frozen=True)
class Copy:
    """A further public post of a job, known by the marker in its content."""

    job_id: str
    post: Post


@dataclass(frozen=True)
class Publication:
    """What was published in a time: the posts, oldest first, and what the site shows beside them.

    `site_problem` says why the site could not be asked or not about everything.
    """

    since: datetime
    until: datetime
    total: int
    posts: Sequence[Published]
    copies: Sequence[Copy] = ()
    unknown_markers: int = 0
    earlier_sketches: Sequence[tuple[str, tuple[int, ...]]] = ()
    site_asked: bool = False
    site_problem: str | None = None
    looked_at: datetime = field(default_factory=lambda: datetime.now(UTC))


def read_publication(
    sources: Sources,
    since: datetime,
    until: datetime,
    most_posts: int,
    deadline: Deadline,
    open_site: OpenSite = site_of_settings,
) -> Publication:
    """Reads our books, then asks the site. Raises what the database raises; a site that does not answer is
    said in `site_problem`, and what our books hold stands."""
    books = _read_books(sources, since, until, most_posts)
    if not books.posts:
        return replace(books, site_asked=True)
    try:
        with open_site() as site:
            return _with_the_site(books, site, deadline)
    except (RunbookError, JobFailed) as error:
        return replace(
            books, posts=_as_written(books.posts), site_problem=one_line(str(error), 300)
        )


def _read_books(sources: Sources, since: datetime, until: datetime, most_posts: int) -> Publication:
    jobs = sources.reading(_SQL["posts_of_ended_jobs"])
    with sources.pipeline.transaction(read_only=True) as transaction:
        rows = transaction.rows(jobs, since=since, until=until, row_count=most_posts)[::-1]
    posts = [
        Published(row.job_id, row.status, row.topic or "", row.category, row.post_id, row.post_status,
                  row.post_url, row.ended_at)
        for row in rows
    ]  # fmt: skip
    total = rows[0].total if rows else 0
    if sources.attached or not rows:
        return Publication(since, until, total, posts)
    job_ids = [post.job_id for post in posts]
    with sources.bookkeeping.transaction(read_only=True) as transaction:
        articles = transaction.rows(_SQL["articles_of_jobs"], job_ids=job_ids)
        taken = transaction.rows(_SQL["taken_off"], job_ids=job_ids)
        earlier = transaction.rows(
            _SQL["earlier_sketches"], since=since, days=EARLIER_DAYS, row_count=MOST_EARLIER
        )
    return Publication(
        since, until, total, _with_articles(posts, articles, taken),
        earlier_sketches=[(row.job_id, tuple(row.likeness_sketch)) for row in reversed(earlier)],
    )  # fmt: skip


def _with_articles(
    posts: Iterable[Published], articles: Iterable[Any], taken: Iterable[Any]
) -> list[Published]:
    written = {row.job_id: row for row in articles}
    off = {
        row.job_id: f"by {row.applied_by or 'somebody'} at {row.acted_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        for row in taken
        if row.kind in ("posts.unpublish", "posts.trash")
    }
    found = []
    for post in posts:
        row = written.get(post.job_id)
        article = Written(row.title, visible_text(row.body_markdown, with_code=False), row.finish_reason) if row else None  # fmt: skip
        found.append(
            replace(
                post,
                written=article,
                model=row.model if row else None,
                taken_off=off.get(post.job_id),
            )
        )
    return found


def _as_written(posts: Iterable[Published]) -> list[Published]:
    return [replace(post, text=Text.of_article(post.written)) if post.written else post for post in posts]  # fmt: skip


def _with_the_site(books: Publication, site: WordPressClient, deadline: Deadline) -> Publication:
    shown, problem = _shown_posts(site, books.since - DATE_MARGIN, deadline)
    by_id = {post.post_id: post for post in shown}
    elsewhere = _elsewhere(site, [post for post in books.posts if post.post_id not in by_id], deadline)  # fmt: skip
    posts = [_as_it_stands(post, by_id.get(post.post_id), elsewhere) for post in books.posts]
    ours = {post.job_id: post for post in books.posts}
    marked = [(_MARKER.findall(post.content), post) for post in shown]
    copies = [
        Copy(markers[-1], post)
        for markers, post in marked
        if markers and markers[-1] in ours and post.post_id != ours[markers[-1]].post_id
    ]
    # A copy counts only beside a post that readers see: else it is the job's post under another id.
    public = {post.job_id for post in posts if post.is_public}
    return replace(
        books, posts=posts, copies=[each for each in copies if each.job_id in public],
        unknown_markers=sum(bool(markers) and markers[-1] not in ours for markers, _ in marked),
        site_asked=True, site_problem=problem,
    )  # fmt: skip


def _shown_posts(
    site: WordPressClient, moment: datetime, deadline: Deadline
) -> tuple[list[Post], str | None]:
    found: list[Post] = []
    page = pages = 1
    while page <= min(pages, MOST_PAGES):
        posts, pages = site.posts_since(moment, page, deadline)
        found += posts
        page += 1
    if pages <= MOST_PAGES:
        return found, None
    return found, f"The site shows more than {MOST_PAGES * ITEMS_A_PAGE:,} posts of these days: copies were looked for among the first ones only."  # fmt: skip


def _elsewhere(
    site: WordPressClient, posts: Sequence[Published], deadline: Deadline
) -> Mapping[int, Post | None]:
    """Posts that the site did not list as public of these days: how they stand, with their content where
    they are public all the same."""
    found: dict[int, Post | None] = {}
    for start in range(0, len(posts), ITEMS_A_PAGE):
        ids = [post.post_id for post in posts[start : start + ITEMS_A_PAGE]]
        found |= live_posts(site, ids, deadline)
    for post_id, post in found.items():
        if post is not None and post.status in PUBLIC:
            found[post_id] = site.post(post_id, deadline)
    return found


def _as_it_stands(
    post: Published, shown: Post | None, elsewhere: Mapping[int, Post | None]
) -> Published:
    if shown is None and post.post_id in elsewhere and elsewhere[post.post_id] is None:
        return replace(post, live_status=HIDDEN)
    live = shown or elsewhere.get(post.post_id)
    if live is None:
        return replace(post, live_status=None)
    text = Text.of_post(live.title, live.content) if live.status in PUBLIC else None
    return replace(post, live=live, live_status=live.status, url=live.url or post.url, text=text)
