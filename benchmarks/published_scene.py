"""Published articles at a site, healthy and bad ones, as the pipeline would have left them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from runbook_lib.database import Database
from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline.likeness import likeness_sketch, words_of
from runbook_lib.pipeline.model import Post
from runbook_lib.pipeline.publishing import marker_text
from runbook_lib.pipeline.rendering import to_html, visible_text
from runbook_lib.pipeline.slugs import slug_for
from runbook_lib.pipeline.wordpress import WordPressClient
from runbook_lib.sandbox.articles import write_article
from runbook_lib.sandbox.briefs import Brief

# What can be made bad, each as it really comes about.
KINDS = (
    "empty",
    "cut",
    "cut at the site",
    "repeated",
    "leftovers",
    "too alike",
    "wrong status",
    "doubled",
)
SUBJECTS = ("a CRM for a small team", "garden sheds", "home insulation", "bread baking", "trail running", "payroll software", "rain barrels", "public libraries", "bicycle repair", "heat pumps", "choir practice", "meal planning")  # fmt: skip
_ADD_JOB = """
INSERT INTO content_jobs (job_id, topic, category, status, completed_at, updated_at, post_id, post_status, post_url, source)
VALUES (%(job_id)s::uuid, %(topic)s, 'News', %(status)s, now() - make_interval(mins => %(age)s),
    now() - make_interval(mins => %(age)s), %(post_id)s, %(post_status)s, %(url)s, 'editorial')
"""
_ADD_ARTICLE = """
INSERT INTO articles (job_id, attempt, title, excerpt, body_markdown, word_count, likeness_sketch, model, finish_reason, created_at)
VALUES (%(job_id)s::uuid, 1, %(title)s, '', %(body)s, %(words)s, %(sketch)s, 'gpt-4o-mini', %(finish)s,
    now() - make_interval(mins => %(age)s))
"""


@dataclass
class PublishedScene:
    """A database and a site with the posts of its jobs; `bad` are the ids of posts that must be found."""

    database: Database
    site: WordPressClient
    seed: str = "scene"
    healthy: list[int] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)
    job_of: dict[int, str] = field(default_factory=dict)
    _count: int = 0

    def add_healthy(self, count: int = 1) -> list[int]:
        """Articles as the sandbox writes them, published as they are."""
        made = [self._publish(*self._article()) for _ in range(count)]
        self.healthy += made
        return made

    def add_bad(self, kind: str) -> int:
        """One bad post of a kind of `KINDS`."""
        topic, title, body = self._article()
        made = {
            "empty": lambda: self._publish(topic, title, body, shown=""),
            "cut": lambda: self._publish(topic, title, body[: int(len(body) * 0.6)].rsplit(" ", 1)[0], finish="length"),
            "cut at the site": lambda: self._publish(topic, title, body, shown=_beginning(body)),
            "repeated": lambda: self._publish(topic, title, f"{body}\n\n{body.split(chr(10) * 2)[0]}"),
            "leftovers": lambda: self._publish(topic, title, f"Sure, here is the article you asked for.\n\n{body}"),
            "too alike": lambda: self._copy_of_earlier(topic),
            "wrong status": lambda: self._publish(topic, title, body, job_status="error", recorded="draft"),
            "doubled": lambda: self._double(topic, title, body),
        }[kind]()  # fmt: skip
        self.bad[made] = kind
        return made

    def statuses(self, post_ids: list[int]) -> dict[int, str]:
        """How posts stand at the site."""
        found: dict[int, str] = {}
        for start in range(0, len(post_ids), 100):
            posts = self.site.posts_by_id(post_ids[start : start + 100], soon())
            found |= {post.post_id: post.status for post in posts}
        return found

    def _article(self) -> tuple[str, str, str]:
        self._count += 1
        topic = f"{self.seed} {self._count}: {SUBJECTS[self._count % len(SUBJECTS)]}"
        written = write_article(Brief(topic), seed=self._count)
        return topic, written.title, written.body_markdown.strip()

    def _publish(
        self,
        topic: str,
        title: str,
        body: str,
        *,
        shown: str | None = None,
        finish: str = "stop",
        job_status: str = "completed",
        recorded: str = "publish",
        age_minutes: int | None = None,
    ) -> int:
        job_id = str(uuid.uuid4())
        post = self._post(job_id, topic, title, body if shown is None else shown)
        age = 1_000 - self._count if age_minutes is None else age_minutes
        with self.database.transaction() as transaction:
            transaction.run(_ADD_JOB, job_id=job_id, topic=topic, status=job_status, age=age,
                            post_id=post.post_id, post_status=recorded, url=post.url)  # fmt: skip
            transaction.run(_ADD_ARTICLE, job_id=job_id, title=title, body=body, age=age, finish=finish,
                            words=len(words_of(visible_text(body))), sketch=list(likeness_sketch(body)))  # fmt: skip
        self.job_of[post.post_id] = job_id
        return post.post_id

    def _post(self, job_id: str, topic: str, title: str, body: str) -> Post:
        content = f"{to_html(body).rstrip()}\n<!-- {marker_text(job_id)} -->"
        fields = {"status": "publish", "title": title, "content": content, "slug": slug_for(topic, job_id)}  # fmt: skip
        return self.site.create_post(fields, soon())

    def _copy_of_earlier(self, topic: str) -> int:
        first, title, body = self._article()
        self.healthy.append(self._publish(first, title, body, age_minutes=2_000))
        return self._publish(topic, f"{title} again", body)

    def _double(self, topic: str, title: str, body: str) -> int:
        own = self._publish(topic, title, body)
        self.healthy.append(own)
        copy = self._post(self.job_of[own], topic, title, body)
        self.job_of[copy.post_id] = self.job_of[own]
        return copy.post_id

    @contextmanager
    def open_site(self) -> Iterator[WordPressClient]:
        """For reviews and changes: the scene's client, which stays open."""
        yield self.site


def soon() -> Deadline:
    return Deadline.after(60)


def _beginning(body: str) -> str:
    return body[: int(len(body) * 0.7)].rsplit(" ", 1)[0]
