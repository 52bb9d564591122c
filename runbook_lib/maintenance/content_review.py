"""Which published posts are bad, and since when; and which of them can be taken off the site.

What readers see counts: the posts are judged as they stand at the site. Where it does not answer, the
articles are judged as they were written, and the review says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.errors import InsufficientPrivilege

from runbook_lib.credentials.masking import one_line
from runbook_lib.deadlines import Deadline
from runbook_lib.errors import RunbookError
from runbook_lib.health.answers import LONGEST_PROBLEM_CHARACTERS, Answer, table
from runbook_lib.health.checks import Check, Verdict
from runbook_lib.health.sources import Sources
from runbook_lib.health.tables import Table
from runbook_lib.maintenance.post_faults import (
    KINDS,
    Fault,
    alike_pairs,
    fault_of_standing,
    faults_of_text,
)
from runbook_lib.maintenance.published_posts import (
    NEEDS,
    OpenSite,
    Publication,
    Published,
    read_publication,
)
from runbook_lib.pipeline.posts import reviewed_posts, site_of_settings
from runbook_lib.settings import load_settings

if TYPE_CHECKING:
    from runbook_lib.health.charts import Chart

DEADLINE_SECONDS = 120.0
ROWS_SHOWN = 50
_COLUMNS = ("published_at", "post", "title", "stands", "faults", "job", "address")


def short_address(url: str | None, post_id: int) -> str | None:
    """The address that every WordPress knows a post by; its own may be as long as its title."""
    found = re.match(r"https?://[^/]+", url or "")
    if found is None:
        return url
    return f"{load_settings().wordpress_url or found[0]}/?p={post_id}"


@dataclass(frozen=True)
class BadPost:
    """One post that is bad, and why. `job_id` and `post_id` name what is taken off."""

    job_id: str
    post_id: int
    title: str
    url: str | None
    published_at: datetime
    stands: str
    is_public: bool
    faults: tuple[Fault, ...]
    model: str | None = None
    category: str | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(fault.kind for fault in self.faults)

    def row(self) -> dict[str, Any]:
        said = "; ".join(f"{fault.kind}: {fault.detail}" for fault in self.faults)
        return {
            "published_at": self.published_at, "post": str(self.post_id), "title": self.title,
            "stands": self.stands, "faults": said, "job": self.job_id, "address": short_address(self.url, self.post_id),
        }  # fmt: skip


@dataclass(frozen=True, repr=False)
class ContentReview(Answer):
    """Bad posts of some days, oldest first. `site` is the check that the site was asked about all of them:
    nothing should be taken off without it."""

    check: Check
    site: Check
    publication: Publication | None
    bad_posts: Sequence[BadPost] = ()
    problem: str | None = None

    @property
    def bad(self) -> Table:
        """Every bad post, the oldest first, and what is wrong with it."""
        rows = [post.row() for post in self.bad_posts[:ROWS_SHOWN]]
        shown = table(rows, _COLUMNS, self._empty)
        if len(self.bad_posts) <= ROWS_SHOWN:
            return shown
        return replace(shown, caption=f"The first {ROWS_SHOWN} of {len(self.bad_posts):,}")

    @property
    def by_kind(self) -> Table:
        """What is wrong, how often, and since when."""
        rows = []
        for kind, meaning in KINDS.items():
            posts = [post for post in self.bad_posts if kind in post.kinds]
            if posts:
                rows.append({
                    "kind": kind, "posts": len(posts), "public": sum(post.is_public for post in posts),
                    "since": posts[0].published_at, "last": posts[-1].published_at, "meaning": meaning,
                })  # fmt: skip
        return table(rows, ("kind", "posts", "public", "since", "last", "meaning"), self._empty)

    @property
    def by_origin(self) -> Table:
        """Bad and all posts by model and category: what the bad ones have in common."""
        seen = self.publication.posts if self.publication else ()
        everything = Counter((post.model or "", post.category or "") for post in seen)
        own = {post.post_id for post in seen}
        bad = Counter((post.model or "", post.category or "") for post in self.bad_posts if post.post_id in own)  # fmt: skip
        origins = sorted(everything, key=lambda origin: (-bad[origin], -everything[origin]))
        rows = [
            {"model": origin[0] or None, "category": origin[1] or None, "posts": everything[origin],
             "bad": bad[origin], "bad_percent": 100 * bad[origin] / everything[origin]}
            for origin in origins
        ]  # fmt: skip
        return table(rows, ("model", "category", "posts", "bad", "bad_percent"), "No post in these days.")  # fmt: skip

    def by_day_chart(self) -> Chart:
        """Good and bad posts by the day on which they went out."""
        from runbook_lib.maintenance.content_chart import posts_by_day

        seen = self.publication.posts if self.publication else ()
        own = {post.post_id for post in seen}
        copies = [post.published_at for post in self.bad_posts if post.post_id not in own]
        return posts_by_day(
            [at.astimezone(UTC).date() for at in (*(post.ended_at for post in seen), *copies)],
            [post.published_at.astimezone(UTC).date() for post in self.bad_posts],
        )

    def to_unpublish(self, kinds: str = "all", leave: str = "") -> dict[str, str]:
        """Parameters of `posts.unpublish` for the bad posts that readers see.

        `kinds` narrows it to some kinds of fault and `leave` names jobs whose posts stay, each separated
        by commas.
        """
        wanted = set(KINDS) if kinds.strip() in ("", "all") else _names(kinds)
        kept = _names(leave)
        chosen = [
            (post.job_id, post.post_id)
            for post in self.bad_posts
            if post.is_public and wanted & set(post.kinds) and post.job_id not in kept
        ]
        return {"posts": reviewed_posts(chosen)}

    def results(self) -> dict[str, Any]:
        """Every figure of the review, for the record."""
        publication = self.publication
        return {
            "since": publication.since if publication else None,
            "until": publication.until if publication else None,
            "posts": len(publication.posts) if publication else 0,
            "posts_bad": len(self.bad_posts),
            "posts_bad_and_public": sum(post.is_public for post in self.bad_posts),
            "bad_by_kind": dict(Counter(kind for post in self.bad_posts for kind in post.kinds)),
            "first_bad_at": self.bad_posts[0].published_at if self.bad_posts else None,
            "site_asked": publication.site_asked if publication else False,
            "problem": self.problem,
        }

    @property
    def _empty(self) -> str:
        return f"Not known: {self.problem}" if self.problem else "No post is bad."

    def sentences(self) -> list[str]:
        lines = []
        if self.bad_posts:
            first = self.bad_posts[0]
            lines.append(f"The first of them went out on {first.published_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC: post {first.post_id}, {one_line(first.title, 80)}.")  # fmt: skip
        if self.site.verdict != "ok" and self.publication:
            lines.append(self.site.message)
        return lines


def content_review(
    sources: Sources,
    *,
    days: int = 7,
    since: datetime | None = None,
    most_posts: int = 2_000,
    deadline_seconds: float = DEADLINE_SECONDS,
    open_site: OpenSite = site_of_settings,
) -> ContentReview:
    """Reviews the posts of the last days, or since a moment. Reads only, here and at the site.

    Never raises for what it finds: without the site the articles are judged as they were written; without
    the database the verdict is `not_enough_data`, without the right to read `not_allowed`.
    """
    until = datetime.now(UTC)
    begin = since or until - timedelta(days=days)
    if begin.tzinfo is None:
        begin = begin.replace(tzinfo=UTC)
    try:
        if missing := sources.missing(NEEDS):
            return _without_answer(f"This pipeline has no {', '.join(missing)}: which post belongs to which job is not known.")  # fmt: skip
        likeness = load_settings().runbook_maximum_likeness
        publication = read_publication(
            sources, begin, until, most_posts, Deadline.after(deadline_seconds), open_site
        )
    except InsufficientPrivilege as error:
        return _without_answer(one_line(str(error), LONGEST_PROBLEM_CHARACTERS), "not_allowed")
    except (RunbookError, psycopg2.OperationalError) as error:
        return _without_answer(one_line(str(error), LONGEST_PROBLEM_CHARACTERS))
    bad = _bad_posts(publication, likeness)
    return ContentReview(_content_check(publication, bad), _site_check(publication), publication, bad)  # fmt: skip


def _bad_posts(publication: Publication, likeness: float) -> list[BadPost]:
    faults: dict[str, list[Fault]] = {post.job_id: _own_faults(post) for post in publication.posts}
    posts = {post.job_id: post for post in publication.posts}
    sketches = [*publication.earlier_sketches, *_sketches(publication.posts)]
    for later, earlier, alike in alike_pairs(sketches, likeness):
        if later in faults:
            where = f"post {posts[earlier].post_id}" if earlier in posts else f"the post of job {earlier}"  # fmt: skip
            faults[later].append(Fault("too alike", f"{alike:.0%} the same as {where}"))
    bad = [_bad(posts[job_id], found) for job_id, found in faults.items() if found]
    bad += [
        replace(
            _bad(posts[copy.job_id], [Fault("doubled", f"post {posts[copy.job_id].post_id} is the same article")]),
            post_id=copy.post.post_id, title=copy.post.title, url=copy.post.url, stands=copy.post.status, is_public=True,
        )
        for copy in publication.copies
    ]  # fmt: skip
    return sorted(bad, key=lambda post: (post.published_at, post.post_id))


def _own_faults(post: Published) -> list[Fault]:
    standing = fault_of_standing(post.standing)
    text = faults_of_text(post.text, post.written, post.topic) if post.is_public and post.text else []  # fmt: skip
    return [*([standing] if standing else []), *text]


def _sketches(posts: Iterable[Published]) -> list[tuple[str, Sequence[int]]]:
    return [(post.job_id, post.text.sketch) for post in posts if post.is_public and post.text]


def _bad(post: Published, faults: Sequence[Fault]) -> BadPost:
    stands = "not looked at" if post.live_status == "" else post.live_status or "gone"
    title = post.live.title if post.live else post.written.title if post.written else post.topic
    return BadPost(
        post.job_id, post.post_id, title, post.url, post.ended_at, stands,
        post.is_public, tuple(faults), post.model, post.category,
    )  # fmt: skip


def _content_check(publication: Publication, bad: Sequence[BadPost]) -> Check:
    seen = len(publication.posts)
    check = Check(
        "content.published", "ok",
        f"{seen:,} posts since {publication.since:%Y-%m-%d %H:%M} UTC: none is bad.", len(bad), "posts", 0,
        source="content_review.posts_of_ended_jobs",
        does_not_prove="that what the posts say is true, or that a person would like them",
    )  # fmt: skip
    if not seen:
        return replace(check, verdict="not_enough_data", message=f"No post since {publication.since:%Y-%m-%d %H:%M} UTC.")  # fmt: skip
    if not bad:
        return check
    public = sum(post.is_public for post in bad)
    kinds = Counter(kind for post in bad for kind in post.kinds)
    said = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    verdict: Verdict = "critical" if public else "warning"
    return replace(
        check, verdict=verdict,
        message=f"{len(bad):,} of {seen:,} posts since {publication.since:%Y-%m-%d %H:%M} UTC are bad, and readers see {public:,} of them: {said}.",
        next="Read some of them, then take them off as drafts." if public else "Look at why they are not on the site.",
        procedure="emergency/bad_content", parameters={"since": publication.since.isoformat(timespec="seconds")},
    )  # fmt: skip


def _site_check(publication: Publication) -> Check:
    examined, total = len(publication.posts), publication.total
    hidden = sum(post.live_status == "hidden" for post in publication.posts)
    check = Check("content.site", "ok", f"The site was asked about all {examined:,} posts.", examined, "posts", source="content_review")  # fmt: skip
    if not publication.site_asked:
        return replace(
            check, verdict="not_enough_data",
            message=f"The site did not answer, so the articles were judged as they were written. {publication.site_problem or ''}".strip(),
            next="Open the site; then look again.", procedure="troubleshooting/wordpress_errors",
        )  # fmt: skip
    notes = [publication.site_problem] if publication.site_problem else []
    if examined < total:
        notes.append(f"Only the newest {examined:,} of {total:,} posts were looked at: begin later, or raise most_posts.")  # fmt: skip
    if hidden:
        notes.append(f"{hidden:,} posts belong to another author, and our user may not see them.")
    return replace(check, verdict="warning", message=" ".join(notes)) if notes else check


def _without_answer(problem: str, verdict: Verdict = "not_enough_data") -> ContentReview:
    check = Check("content.published", verdict, f"Nothing could be looked at. {problem}", source="content_review.posts_of_ended_jobs")  # fmt: skip
    return ContentReview(check, replace(check, name="content.site"), None, problem=problem)


def _names(text: str) -> set[str]:
    return {each.strip() for each in text.split(",") if each.strip()}
