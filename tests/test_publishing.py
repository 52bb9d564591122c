"""Publishing effectively once: whatever is lost on the way, one post of a job goes out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from wordpress_site import WordPressSite

from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline.failures import Failure, JobFailed
from runbook_lib.pipeline.model import Article, Job, Post, Usage
from runbook_lib.pipeline.publishing import Publisher, marker
from runbook_lib.pipeline.slugs import slug_for
from runbook_lib.pipeline.wordpress import WordPressClient

CREATE = "POST /wp-json/wp/v2/posts"
LOST = [{"status": 504}, {"cut": True}, {"seconds": 30}]
NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
JOB = Job(
    job_id="0192f0c0-0000-7000-8000-000000000001",
    attempt=1,
    stage="publish",
    topic="How to choose a laptop",
    category="News",
    keywords=["laptop"],
    audience=None,
    tone=None,
    requested_post_status=None,
    priority=100,
    retry_count=0,
    max_retries=5,
    lost_count=0,
    draft_requested_at=None,
    draft_age_seconds=None,
    post_id=None,
    claimed_at=NOW,
)
OTHER_JOB = JOB._replace(job_id="0192f0c0-0000-7000-8000-000000000002")
ARTICLE = Article(
    title="Choosing a laptop: <b>R&D</b> & more",
    excerpt="What matters & what does not.",
    body_markdown="# Choosing\n\nFirst *things* first & \"quotes\" – 3 < 4 😀.\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[A link](https://example.test/?a=1&b=2)\n",
    tags=("Laptops", "Buying"),
    finish_reason="stop",
    usage=Usage("model", 1, 1, None),
    word_count=10,
    likeness_sketch=(),
)  # fmt: skip


def soon() -> Deadline:
    return Deadline.after(60)


def briefly() -> Deadline:
    """Long enough for a site to get one request, and shorter than it stays silent."""
    return Deadline.after(3)


def again(job: Job = JOB) -> Job:
    """The job as the next attempt gets it: a draft was asked for, and nothing is known of it."""
    return job._replace(attempt=job.attempt + 1, draft_requested_at=NOW, draft_age_seconds=90.0)


class Site:
    """A real site, a publisher's view of it as an author, and an administrator's."""

    def __init__(self, server: WordPressSite) -> None:
        self.server = server
        self._clients: list[WordPressClient] = []
        self.client = self.client_of("author")
        self.administrator = self.client_of("administrator")
        self.publisher = Publisher(self.client)
        self.client.site(soon())

    def client_of(self, login: str, **options: float) -> WordPressClient:
        passwords = self.server.passwords
        client = WordPressClient(self.server.url, login, lambda: passwords[login], **options)  # type: ignore[arg-type]
        self._clients.append(client)
        return client

    def posts(self, *statuses: str, job: Job = JOB) -> list[Post]:
        """Every post that holds the job's marker, in these statuses, or in any but trash."""
        query = {"search": f"runbook-job:{job.job_id}", "status": ",".join(statuses or ("any",))}
        return list(self.administrator._find_posts(query, soon()).posts)

    def edit(self, post_id: int, **fields: Any) -> Post:
        """What a person does to a post in the editor."""
        edited = self.administrator.update_post(post_id, fields, soon())
        assert edited is not None
        return edited

    def expect_one_request(self) -> None:
        """Looks up what a draft needs, so that making it is the one request that is left."""
        self.publisher.prepare(JOB, ARTICLE, soon())
        self.client.account(soon())

    def users(self) -> dict[str, int]:
        return {
            login: self.client_of(login).who_am_i(soon()).user_id
            for login in ("author", "second-author")
        }

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def site(wordpress: WordPressSite) -> Iterator[Site]:
    made = Site(wordpress)
    yield made
    made.close()


def failure_of(call: Callable[[], object]) -> Failure:
    with pytest.raises(JobFailed) as caught:
        call()
    return caught.value.failure


# the plain way


def draft_of(publisher: Publisher, job: Job, article: Article, deadline: Deadline) -> Post:
    return publisher.create_draft(job, publisher.prepare(job, article, deadline), deadline)


def test_an_article_becomes_one_published_post_with_everything_that_was_asked_for(
    site: Site,
) -> None:
    assert site.publisher.find(JOB, soon()) is None
    draft = draft_of(site.publisher, JOB, ARTICLE, soon())
    assert draft.status == "draft"
    post = site.publisher.publish(JOB, draft.post_id, soon())
    assert site.posts() == [post]
    assert (post.status, post.slug) == ("publish", slug_for(JOB.topic, JOB.job_id))
    assert post.category_ids == (site.client.category_id("News", soon()),)
    assert len(post.tag_ids) == 2
    assert post.title == "Choosing a laptop: &lt;b&gt;R&amp;D&lt;/b&gt; &amp; more"
    assert post.author_id == site.users()["author"]
    assert post.content.endswith(marker(JOB))
    assert "<table>" in post.content
    assert "😀" in post.content


@pytest.mark.parametrize("login", ["author", "editor", "administrator"])
def test_what_each_role_stores_is_what_was_asked_for(site: Site, login: str) -> None:
    publisher = Publisher(site.client_of(login))
    assert draft_of(publisher, JOB, ARTICLE, soon()).status == "draft"


@pytest.mark.parametrize(("of_site", "of_job", "stands_as"), [("publish", None, "publish"), ("publish", "pending", "pending"), ("draft", None, "draft"), ("draft", "publish", "publish")])  # fmt: skip
def test_the_job_s_wish_for_a_status_goes_before_the_site_s(
    site: Site, of_site: str, of_job: str | None, stands_as: str
) -> None:
    publisher = Publisher(site.client, post_status=of_site)
    job = JOB._replace(requested_post_status=of_job)
    draft = draft_of(publisher, job, ARTICLE, soon())
    for _ in range(2):  # repeatable
        assert publisher.publish(job, draft.post_id, soon()).status == stands_as


def test_plain_permalinks_publish_as_well(site: Site) -> None:
    site.server.variants("plain_permalinks")
    assert site.publisher.find(JOB, soon()) is None
    draft = draft_of(site.publisher, JOB, ARTICLE, soon())
    assert site.publisher.publish(JOB, draft.post_id, soon()).status == "publish"


# categories


def test_a_missing_category_fails_before_anything_is_made(site: Site) -> None:
    failure = failure_of(
        lambda: draft_of(site.publisher, JOB._replace(category="Gone"), ARTICLE, soon())
    )
    assert failure.error_class == "wordpress_category_missing"
    assert "'Gone'" in failure.message
    assert not any(request.startswith(CREATE) for request in site.server.requests())


@pytest.mark.parametrize("category", ["Gone", None, " "])
def test_the_fallback_category_is_taken_when_there_is_none(
    site: Site, category: str | None
) -> None:
    publisher = Publisher(site.client, fallback_category="guides")
    draft = draft_of(publisher, JOB._replace(category=category), ARTICLE, soon())
    assert draft.category_ids == (site.client.category_id("Guides", soon()),)


def test_a_category_that_wordpress_drops_in_silence_fails_and_nothing_goes_out(site: Site) -> None:
    news = site.client.category_id("News", soon())
    assert news is not None
    site.administrator._connection.request(
        "DELETE", f"categories/{news}", soon(), query={"force": "true"}
    )
    failure = failure_of(lambda: draft_of(site.publisher, JOB, ARTICLE, soon()))
    assert failure.error_class == "wordpress_category_missing"
    assert site.posts() == []
    # And once there is such a category again, the job goes through: nothing stale is adopted or cached.
    site.administrator._connection.request("POST", "categories", soon(), fields={"name": "News"})
    assert site.publisher.find(again(), soon()) is None
    assert draft_of(site.publisher, again(), ARTICLE, soon()).category_ids == (
        site.client.category_id("News", soon()),
    )


# lost answers


@pytest.mark.parametrize("lost", LOST)
def test_a_draft_whose_answer_was_lost_is_found_and_published_once(
    site: Site, lost: dict[str, Any]
) -> None:
    site.expect_one_request()
    site.server.fault("lost", match=CREATE, times=1, **lost)
    assert (
        failure_of(lambda: draft_of(site.publisher, JOB, ARTICLE, briefly())).error_class
        == "wordpress_outcome_unknown"
    )
    found = site.publisher.find(again(), soon())
    assert found is not None
    site.publisher.publish(again(), found.post_id, soon())
    assert [post.status for post in site.posts("any", "trash")] == ["publish"]


@pytest.mark.parametrize("lost", LOST)
def test_publishing_whose_answer_was_lost_is_repeated_without_a_second_post(
    site: Site, lost: dict[str, Any]
) -> None:
    draft = draft_of(site.publisher, JOB, ARTICLE, soon())
    site.server.fault("lost", match=f"{CREATE}/{draft.post_id}", times=1, **lost)
    failure_of(lambda: site.publisher.publish(JOB, draft.post_id, briefly()))
    assert site.publisher.publish(again(), draft.post_id, soon()).status == "publish"
    assert len(site.posts("any", "trash")) == 1


def test_a_draft_that_comes_through_late_does_not_become_a_second_post(site: Site) -> None:
    """The first request is held up in front of WordPress; a second attempt publishes meanwhile."""
    site.expect_one_request()
    site.server.fault("delay", match=CREATE, times=1, seconds=60)
    failure = failure_of(lambda: draft_of(site.publisher, JOB, ARTICLE, briefly()))
    assert failure.error_class == "wordpress_outcome_unknown"
    draft = draft_of(site.publisher, again(), ARTICLE, soon())
    site.publisher.publish(again(), draft.post_id, soon())
    site.server.end_fault()
    while len(site.posts()) < 2:
        time.sleep(0.05)
    # Whoever looks next adopts the published one and trashes the late draft.
    found = site.publisher.find(again(), soon())
    assert found is not None
    assert found.post_id == draft.post_id
    assert [post.status for post in site.posts()] == ["publish"]
    trashed = [post.slug.removesuffix("__trashed") for post in site.posts("trash")]
    assert trashed == [f"{slug_for(JOB.topic, JOB.job_id)}-2"]


def test_a_suffixed_slug_reveals_an_earlier_draft_and_that_one_is_the_job_s(site: Site) -> None:
    earlier = draft_of(site.publisher, JOB, ARTICLE, soon())
    post = draft_of(site.publisher, JOB, ARTICLE, soon())
    assert post.post_id == earlier.post_id
    assert len(site.posts()) == 1
    assert len(site.posts("trash")) == 1


def test_of_several_drafts_the_oldest_is_adopted_and_the_others_go_to_the_trash(site: Site) -> None:
    fields = site.publisher.prepare(JOB, ARTICLE, soon()).draft_fields()
    first, second, third = (site.client.create_post(fields, soon()).post_id for _ in range(3))
    found = site.publisher.find(again(), soon())
    assert found is not None
    assert found.post_id == first
    assert {post.post_id for post in site.posts("trash")} == {second, third}


def test_a_published_post_is_adopted_before_an_older_draft(site: Site) -> None:
    fields = site.publisher.prepare(JOB, ARTICLE, soon()).draft_fields()
    _, second = (site.client.create_post(fields, soon()).post_id for _ in range(2))
    site.edit(second, status="publish")
    found = site.publisher.find(again(), soon())
    assert found is not None
    assert (found.post_id, found.status) == (second, "publish")
    assert [post.post_id for post in site.posts()] == [second]


# posts that are not the job's


def test_a_post_under_the_job_s_slug_without_its_marker_is_never_touched(site: Site) -> None:
    slug = slug_for(JOB.topic, JOB.job_id)
    theirs = site.client.create_post(
        {"status": "draft", "slug": slug, "title": "Theirs", "content": "<p>Theirs</p>"}, soon()
    )
    assert site.publisher.find(again(), soon()) is None
    draft = draft_of(site.publisher, JOB, ARTICLE, soon())
    assert draft.slug == f"{slug}-2"
    assert site.publisher.publish(JOB, draft.post_id, soon()).status == "publish"
    assert site.client.post(theirs.post_id, soon()) == theirs


def test_posts_of_other_jobs_on_the_same_topic_are_left_alone(site: Site) -> None:
    other = draft_of(site.publisher, OTHER_JOB, ARTICLE, soon())
    assert site.publisher.find(again(), soon()) is None
    draft_of(site.publisher, JOB, ARTICLE, soon())
    assert site.posts(job=OTHER_JOB) == [other]


def test_a_post_of_another_author_under_the_job_s_slug_is_a_clear_failure(site: Site) -> None:
    draft_of(Publisher(site.client_of("second-author")), JOB, ARTICLE, soon())
    failure = failure_of(lambda: site.publisher.find(again(), soon()))
    assert failure.error_class == "wordpress_post_not_ours"
    assert len(site.posts()) == 1


def test_a_draft_given_to_another_author_is_the_job_s_failure_and_not_the_site_s(
    site: Site,
) -> None:
    draft = draft_of(site.publisher, JOB, ARTICLE, soon())
    site.edit(draft.post_id, author=site.users()["second-author"])
    failure = failure_of(lambda: site.publisher.publish(JOB, draft.post_id, soon()))
    assert failure.error_class == "wordpress_post_not_ours"


def test_a_role_that_was_lowered_is_the_site_s_failure(site: Site) -> None:
    draft = draft_of(site.publisher, JOB, ARTICLE, soon())
    author = site.users()["author"]
    site.administrator._connection.request(
        "POST", f"users/{author}", soon(), fields={"roles": ["contributor"]}
    )
    failure = failure_of(lambda: site.publisher.publish(JOB, draft.post_id, soon()))
    assert failure.error_class == "wordpress_permission_lost"


# what people do meanwhile


@pytest.mark.parametrize("status", ["publish", "private", "pending"])
def test_a_draft_that_a_person_handled_stays_as_they_left_it(site: Site, status: str) -> None:
    draft = draft_of(site.publisher, JOB, ARTICLE, soon())
    site.edit(draft.post_id, status=status, title="Better")
    found = site.publisher.find(again(), soon())
    assert found is not None
    post = site.publisher.publish(again(), found.post_id, soon())
    assert (post.post_id, post.status, post.title) == (draft.post_id, status, "Better")


def test_a_draft_that_a_person_dated_ahead_is_scheduled_and_that_is_a_success(site: Site) -> None:
    draft = draft_of(site.publisher, JOB, ARTICLE, soon())
    site.edit(draft.post_id, date="2099-01-01T08:00:00")
    assert site.publisher.publish(JOB, draft.post_id, soon()).status == "future"
    assert site.publisher.publish(JOB, draft.post_id, soon()).status == "future"


def test_a_post_that_a_person_trashed_is_not_brought_back(site: Site) -> None:
    draft = draft_of(site.publisher, JOB, ARTICLE, soon())
    site.administrator.trash_post(draft.post_id, soon())
    assert (
        failure_of(lambda: site.publisher.publish(JOB, draft.post_id, soon())).error_class
        == "wordpress_post_gone"
    )
    assert [post.status for post in site.posts("any", "trash")] == ["trash"]
    # A retry that an operator asks for forgets the old post and makes a new draft.
    assert site.publisher.find(JOB, soon()) is None
    assert draft_of(site.publisher, JOB, ARTICLE, soon()).slug == slug_for(JOB.topic, JOB.job_id)


def test_a_post_that_a_person_deleted_is_gone(site: Site) -> None:
    draft = draft_of(site.publisher, JOB, ARTICLE, soon())
    site.administrator._connection.request(
        "DELETE", f"posts/{draft.post_id}", soon(), query={"force": "true"}
    )
    assert (
        failure_of(lambda: site.publisher.publish(JOB, draft.post_id, soon())).error_class
        == "wordpress_post_gone"
    )


def test_a_draft_whose_slug_was_changed_is_still_found_when_one_may_exist(site: Site) -> None:
    draft = draft_of(site.publisher, JOB, ARTICLE, soon())
    site.edit(draft.post_id, slug="a-better-address")
    assert site.publisher.find(JOB, soon()) is None  # the first attempt has nothing to search for
    found = site.publisher.find(again(), soon())
    assert found is not None
    assert found.post_id == draft.post_id


# answers that differ from what was asked


@pytest.mark.parametrize(
    ("variant", "told"), [("drops_paragraphs", "content differs"), ("changes_slugs", "slug is")]
)
def test_what_the_site_stores_differently_is_named_and_does_not_go_out(
    site: Site, variant: str, told: str
) -> None:
    site.server.variants(variant)
    failure = failure_of(lambda: draft_of(site.publisher, JOB, ARTICLE, soon()))
    assert failure.error_class == "wordpress_answer_differs"
    assert told in failure.message
    assert site.posts() == []


def test_a_site_that_moderates_instead_of_publishing_is_told(site: Site) -> None:
    draft = draft_of(site.publisher, JOB, ARTICLE, soon())
    site.server.variants("moderates")
    failure = failure_of(lambda: site.publisher.publish(JOB, draft.post_id, soon()))
    assert failure.error_class == "wordpress_answer_differs"
    assert "'pending'" in failure.message


def test_threads_share_one_publisher(site: Site) -> None:
    jobs = [JOB._replace(job_id=f"0192f0c0-0000-7000-8000-{number:012d}") for number in range(8)]
    outcomes: list[Post] = []

    def publish(job: Job) -> None:
        client_deadline = soon()
        draft = publisher.find(job, client_deadline) or draft_of(
            publisher, job, ARTICLE, client_deadline
        )
        outcomes.append(publisher.publish(job, draft.post_id, client_deadline))

    publisher = Publisher(site.client_of("author"))
    threads = [threading.Thread(target=publish, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(post.slug for post in outcomes) == sorted(
        slug_for(job.topic, job.job_id) for job in jobs
    )
    assert {post.status for post in outcomes} == {"publish"}
