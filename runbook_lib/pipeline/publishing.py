"""Publishes an article effectively once, on a site that offers neither keys nor constraints.

The order is: look the job's slug up → make a draft → (the coordinator stores its id) → publish that id.
Only making the draft can leave an unknown outcome, and only a draft can then exist twice; the next
look-up adopts one and trashes the rest. A post is ours when its content ends with the job's marker: a
slug alone may be anybody's. What a person did to a post in the meantime stays as they left it.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Iterable, Sequence

from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline.failures import JobFailed
from runbook_lib.pipeline.model import Article, Job, Post
from runbook_lib.pipeline.post_comparison import PostRequest, differences, missing_categories
from runbook_lib.pipeline.slugs import slug_family, slug_for
from runbook_lib.pipeline.wordpress import WordPressClient

logger = logging.getLogger(__name__)

# Of several posts of one job, the one that people can see most of is the job's post.
_STATUS_ORDER = ("publish", "future", "private", "pending", "draft")


class Publisher:
    """Publishes jobs' articles at one site. Keeps no state of jobs; threads may share it.

    `post_status` is what a post becomes unless its job says otherwise; `fallback_category` is taken
    when a job's category does not exist at the site or the job names none.
    """

    def __init__(
        self,
        client: WordPressClient,
        *,
        post_status: str = "publish",
        fallback_category: str | None = None,
    ) -> None:
        self._client = client
        self._post_status = post_status
        self._fallback_category = fallback_category

    def find(self, job: Job, deadline: Deadline) -> Post | None:
        """The job's post outside the trash, whatever its status; stray drafts of the job are trashed.

        Raises `JobFailed`: `wordpress_post_not_ours` when a post stands under the job's slug that our
        user may not see; otherwise as the client.
        """
        found = self._client.posts_by_slug(
            slug_family(slug_for(job.topic, job.job_id)), ("any",), deadline
        )
        ours = _with_marker(job, found.posts)
        if not ours and job.draft_requested_at is not None:
            # A plugin or a person may have changed the slug of a draft whose id we never learnt.
            ours = _with_marker(
                job, self._client.posts_that_hold(marker_text(job.job_id), deadline).posts
            )
        if not ours and found.hidden_count:
            raise _failed(
                "wordpress_post_not_ours",
                f"A post of another author holds the slug {slug_for(job.topic, job.job_id)!r}; "
                f"{self._client.user} may not see it, so it cannot be told whether it is this job's.",
            )
        return self._adopt(job, ours, deadline)

    def prepare(self, job: Job, article: Article, deadline: Deadline) -> PostRequest:
        """What is asked of WordPress for this article; looks categories and tags up.

        Raises `JobFailed`, with `wordpress_category_missing` when there is neither the category nor a
        fallback.
        """
        from runbook_lib.pipeline.rendering import to_html

        category_id = self._category_id(job, deadline)
        return PostRequest(
            # Escaped, since an editor's title is stored and shown as it is, tags included.
            title=html.escape(article.title, quote=False),
            content=f"{to_html(article.body_markdown).rstrip()}\n{marker(job)}",
            excerpt=html.escape(article.excerpt, quote=False),
            slug=slug_for(job.topic, job.job_id),
            category_ids=() if category_id is None else (category_id,),
            tag_ids=self._client.tag_ids(article.tags, deadline),
        )

    def create_draft(self, job: Job, request: PostRequest, deadline: Deadline) -> Post:
        """Makes the draft and compares what was stored with what was asked.

        Raises `JobFailed`: `wordpress_outcome_unknown` when it may exist; `wordpress_category_missing`
        or `wordpress_answer_differs` when it exists and is not what was asked: it is trashed then.
        """
        author_id = self._client.account(deadline).user_id
        post = self._client.create_post(request.draft_fields(), deadline)
        if post.slug != request.slug and (earlier := self._find_earlier(job, post, deadline)):
            return earlier
        self._require_same(request, post, author_id, deadline)
        return post

    def publish(self, job: Job, post_id: int, deadline: Deadline) -> Post:
        """Gives the draft its wanted status; may be called again after any failure.

        A post that is not a draft any more is returned as it is: published by an earlier call, or
        handled by a person (scheduled, made private, sent to review). Raises `JobFailed`:
        `wordpress_post_gone` when it was trashed or deleted, never bringing it back.
        """
        wanted = self.wanted_status(job)
        try:
            post = _require_present(post_id, self._client.post(post_id, deadline))
            if post.status != "draft" or wanted == "draft":
                return post
            post = _require_present(
                post_id, self._client.update_post(post_id, {"status": wanted}, deadline)
            )
        except JobFailed as failed:
            raise self._whose_fault(failed, post_id, wanted, deadline) from None
        # A date that a person set in the future makes WordPress schedule the post: it will go out.
        if post.status not in (wanted, "future"):
            raise _failed(
                "wordpress_answer_differs",
                f"Post {post_id} was to become {wanted!r} and is {post.status!r} now.",
            )
        return post

    def wanted_status(self, job: Job) -> str:
        """`publish`, `draft` or `pending`: the job's own wish, else the site's."""
        return job.requested_post_status or self._post_status

    def _category_id(self, job: Job, deadline: Deadline) -> int | None:
        names = [name for name in (job.category, self._fallback_category) if name and name.strip()]
        for name in names:
            category_id = self._client.category_id(name, deadline)
            if category_id is not None:
                if name is not job.category:
                    logger.info("category %r is taken for job %s", name, job.job_id)
                return category_id
        if not names:
            return None
        missing = " and ".join(repr(name) for name in names)
        raise _failed("wordpress_category_missing", f"The site has no category {missing}.")

    def _adopt(self, job: Job, ours: Sequence[Post], deadline: Deadline) -> Post | None:
        if not ours:
            return None
        adopted = min(
            ours, key=lambda post: (post.post_id != job.post_id, _rank(post), post.post_id)
        )
        for stray in ours:
            if stray is not adopted and stray.status == "draft":
                self._client.trash_post(stray.post_id, deadline)
                logger.info("stray draft %s of job %s trashed", stray.post_id, job.job_id)
        return adopted

    def _find_earlier(self, job: Job, post: Post, deadline: Deadline) -> Post | None:
        """WordPress gave another slug than asked: somebody holds it. If it is an earlier draft of this
        job that came through late, that one is the job's post, and the new draft is trashed."""
        slugs = slug_family(slug_for(job.topic, job.job_id))
        found = self._client.posts_by_slug(slugs, ("any",), deadline).posts
        earlier = [each for each in _with_marker(job, found) if each.post_id != post.post_id]
        return self._adopt(job, [*earlier, post], deadline) if earlier else None

    def _require_same(
        self, request: PostRequest, post: Post, author_id: int, deadline: Deadline
    ) -> None:
        dropped = missing_categories(request, post)
        differing = differences(request, post, author_id)
        if not dropped and not differing:
            return
        # What was cached about categories, tags or the user may be what was wrong.
        self._client.forget_cached()
        left = self._trash_refused(post, deadline)
        if dropped:
            numbers = ", ".join(map(str, dropped))
            raise _failed(
                "wordpress_category_missing",
                f"WordPress dropped category {numbers} without a word. {left}",
            )
        raise _failed(
            "wordpress_answer_differs",
            f"Asked for and stored differ: {'; '.join(differing)}. {left}",
        )

    def _trash_refused(self, post: Post, deadline: Deadline) -> str:
        # Left standing, the next look-up would adopt it, and it would go out as it is.
        if post.status != "draft":
            return f"Post {post.post_id} stands as {post.status!r}."
        try:
            self._client.trash_post(post.post_id, deadline)
        except JobFailed as failed:
            return f"Draft {post.post_id} could not be trashed ({failed.failure.error_class}): trash it."
        return f"Draft {post.post_id} was trashed."

    def _whose_fault(
        self, failed: JobFailed, post_id: int, wanted: str, deadline: Deadline
    ) -> JobFailed:
        """A refused permission is the site's fault for all jobs, unless the user still may do to its
        own posts what it may not do to this one: then somebody gave the post to another author."""
        if failed.failure.error_class != "wordpress_permission_lost":
            return failed
        needed = "publish_posts" if wanted == "publish" else "edit_posts"
        if needed not in self._client.who_am_i(deadline).capabilities:
            return failed
        return _failed(
            "wordpress_post_not_ours",
            f"Post {post_id} belongs to another author now; {self._client.user} may not change it.",
        )


def marker(job: Job) -> str:
    """The comment at the end of the content by which a post is known as the job's."""
    return f"<!-- {marker_text(job.job_id)} -->"


def marker_text(job_id: str) -> str:
    """What the marker says, and what the site is searched for."""
    return f"runbook-job:{job_id}"


def _with_marker(job: Job, posts: Iterable[Post]) -> list[Post]:
    return [
        post for post in posts if marker_text(job.job_id) in post.content and post.status != "trash"
    ]


def _rank(post: Post) -> int:
    return _STATUS_ORDER.index(post.status) if post.status in _STATUS_ORDER else len(_STATUS_ORDER)


def _require_present(post_id: int, post: Post | None) -> Post:
    if post is None:
        raise _failed("wordpress_post_gone", f"Post {post_id} does not exist any more.")
    if post.status == "trash":
        raise _failed("wordpress_post_gone", f"Post {post_id} is in the trash.")
    return post


def _failed(error_class: str, message: str) -> JobFailed:
    return JobFailed.because(error_class, message, stage="publish", provider="wordpress")
