"""Bad posts are found, each kind of them and nothing else, and taken off exactly as reviewed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from foreign_pipeline import BARE, UUID_KEYS, attached_settings
from roles import MakeRole
from wordpress_site import WordPressSite

from benchmarks.published_scene import KINDS, PublishedScene, soon
from runbook_lib import changes
from runbook_lib.database import Database
from runbook_lib.errors import UsageError
from runbook_lib.health.sources import Sources, open_sources
from runbook_lib.maintenance.content_review import ContentReview, content_review
from runbook_lib.maintenance.duplicate_review import duplicate_review
from runbook_lib.maintenance.post_faults import (
    Standing,
    Text,
    Written,
    alike_pairs,
    fault_of_standing,
    faults_of_text,
)
from runbook_lib.pipeline import posts
from runbook_lib.pipeline.likeness import likeness_sketch
from runbook_lib.pipeline.posts import reviewed_posts
from runbook_lib.pipeline.rendering import to_html, visible_text
from runbook_lib.pipeline.wordpress import WordPressClient
from runbook_lib.sandbox.articles import write_article
from runbook_lib.sandbox.briefs import Brief

BODY = write_article(Brief("How to choose a garden shed")).body_markdown.strip()
WRITTEN = Written("A shed", visible_text(BODY, with_code=False), "stop")
POST_KINDS = (posts.Unpublish, posts.Restore)


def kinds(content: str, written: Written | None = WRITTEN, title: str = "A shed") -> list[str]:
    found = faults_of_text(Text.of_post(title, content), written, "How to choose a garden shed")
    return [fault.kind for fault in found]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", ["empty"]),
        ("<p>&nbsp;</p>\n<!-- runbook-job:x -->", ["empty"]),
        (to_html(BODY[: len(BODY) // 2].rsplit(" ", 1)[0]), ["cut"]),
        (to_html(f"{BODY}\n\n{BODY}"), ["repeated"]),
        (to_html(f"As an AI language model, I cannot see sheds.\n\n{BODY}"), ["leftovers"]),
        # Healthy: as written; with a picture alone; changed, shortened by a section or ended by a person.
        (to_html(BODY), []),
        ('<figure><img src="shed.png"></figure>', []),
        (to_html(BODY.replace("shed", "hut")), []),
        (to_html(BODY[: BODY.rindex("\n\n")]), []),
        (f"{to_html(BODY)}<p>Photo by Jo Doe who lent us her shed for a day", []),
        (f"<pre>{'again and again ' * 60}</pre>{to_html(BODY)}", []),
    ],
)
def test_what_a_text_is_accused_of(content: str, found: list[str]) -> None:
    assert kinds(content) == found


def test_an_article_that_the_model_did_not_end_is_cut_until_somebody_ends_it() -> None:
    stopped = Written("A shed", WRITTEN.prose, "length")
    assert kinds(to_html(BODY), stopped) == ["cut"]
    assert (
        kinds(to_html(f"{BODY}\n\nAnd this is how it ended, written by an editor."), stopped) == []
    )


def test_without_the_article_only_a_text_that_ends_its_other_sentences_is_cut() -> None:
    whole = "<p>One sentence that is long enough to judge.</p>" * 3
    assert kinds(f"{whole}<p>Another one that stops in the middle of its</p>", None) == ["cut"]
    verse = "<p>a line without an end as poets write them</p>"
    assert "cut" not in kinds(verse * 4, None)


@pytest.mark.parametrize(
    ("standing", "found"),
    [
        (Standing("completed", "publish", None), "missing"),
        (Standing("completed", "publish", "trash"), "missing"),
        (Standing("completed", "publish", "private"), "wrong status"),
        (Standing("error", "draft", "publish"), "wrong status"),
        (Standing("completed", "draft", "publish", "by ana"), "wrong status"),
        # Healthy: as it should be; published, or trashed, by us or by an editor; not looked at.
        (Standing("completed", "publish", "publish"), None),
        (Standing("completed", "draft", "draft"), None),
        (Standing("completed", "draft", "publish"), None),
        (Standing("completed", "publish", "publish", "by ana"), None),
        (Standing("completed", "trash", "trash"), None),
        (Standing("completed", "publish", ""), None),
    ],
)
def test_where_a_post_stands(standing: Standing, found: str | None) -> None:
    fault = fault_of_standing(standing)
    assert (fault.kind if fault else None) == found


def test_of_two_texts_that_are_alike_the_later_is_named_once_with_the_earliest() -> None:
    other = write_article(Brief("Baking bread at home")).body_markdown
    texts = {"a": BODY, "b": other, "c": BODY + "\n\nOne more line.", "d": BODY}
    pairs = alike_pairs([(name, likeness_sketch(text)) for name, text in texts.items()], 0.8)
    assert [(later, earlier) for later, earlier, _ in pairs] == [("c", "a"), ("d", "a")]


@pytest.fixture
def scene(
    wordpress: WordPressSite, database: Database, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PublishedScene]:
    monkeypatch.setenv("DATABASE_URL", database.url)
    site = WordPressClient(wordpress.url, "author", lambda: wordpress.passwords["author"])
    made = PublishedScene(database, site)
    for kind in POST_KINDS:
        changes.register(kind(made.open_site))
    yield made
    site.close()
    for kind in POST_KINDS:
        changes.register(kind())


def look(scene: PublishedScene, **options: Any) -> ContentReview:
    sources = Sources(scene.database, scene.database)
    return content_review(sources, days=3, open_site=scene.open_site, **options)


def test_on_a_real_site_exactly_the_bad_posts_are_found_taken_off_and_brought_back(
    scene: PublishedScene,
) -> None:
    scene.add_healthy(4)
    for kind in KINDS:
        scene.add_bad(kind)
    gone = scene.add_healthy()[0]
    scene.healthy.remove(gone)
    scene.site.trash_post(gone, soon())

    found = look(scene)
    assert found.verdict == "critical", found.check.message
    assert found.site.verdict == "ok"
    by_post = {post.post_id: post for post in found.bad_posts}
    assert by_post.keys() == {*scene.bad, gone}
    assert by_post[gone].kinds == ("missing",)
    for post_id, kind in scene.bad.items():
        assert by_post[post_id].kinds == (kind.removesuffix(" at the site"),), post_id
    assert found.results()["bad_by_kind"]["cut"] == 2
    assert f"{len(found.bad_posts)} of them bad" in found.by_day_chart().words
    assert "readers see 8" in found._repr_html_()

    plan = changes.plan(scene.database, "posts.unpublish", found.to_unpublish(), actor="ana")
    assert plan.row_count == len(scene.bad)
    assert scene.statuses([*scene.healthy, *scene.bad]) == dict.fromkeys([*scene.healthy, *scene.bad], "publish")  # fmt: skip
    result = changes.apply(scene.database, plan.change_id, actor="ana", dry_run=False)
    assert (result.status, result.changed) == ("applied", len(scene.bad))
    assert scene.statuses(list(scene.bad)) == dict.fromkeys(scene.bad, "draft")
    assert scene.statuses(scene.healthy) == dict.fromkeys(scene.healthy, "publish")
    after = look(scene)
    assert [post.kinds for post in after.bad_posts] == [("missing",)]
    assert after.to_unpublish() == {"posts": "none"}

    undo = changes.plan_undo(scene.database, plan.change_id, actor="ana")
    assert changes.apply(scene.database, undo.change_id, actor="ana", dry_run=False).changed == len(scene.bad)  # fmt: skip
    assert scene.statuses(list(scene.bad)) == dict.fromkeys(scene.bad, "publish")

    # What was taken off and published again behind our back is found by its status.
    again = changes.plan(scene.database, "posts.unpublish", look(scene).to_unpublish(kinds="leftovers"), actor="ana")  # fmt: skip
    changes.apply(scene.database, again.change_id, actor="ana", dry_run=False)
    (post_id,) = [post_id for post_id, kind in scene.bad.items() if kind == "leftovers"]
    scene.site.update_post(post_id, {"status": "publish"}, soon())
    (shown,) = [post for post in look(scene).bad_posts if post.post_id == post_id]
    assert shown.kinds == ("wrong status", "leftovers")
    assert look(scene, since=datetime.now(UTC)).verdict == "not_enough_data"


def test_a_reviewed_set_holds_only_posts_of_the_jobs_that_it_names(scene: PublishedScene) -> None:
    """Nobody takes a stranger's post off by naming it."""
    own, other = scene.add_healthy(2)
    strangers = scene.site.create_post({"title": "Not ours", "content": "A page.", "status": "publish"}, soon())  # fmt: skip
    named = [(scene.job_of[own], own), (scene.job_of[own], strangers.post_id), (scene.job_of[own], other)]  # fmt: skip
    plan = changes.plan(scene.database, "posts.unpublish", {"posts": reviewed_posts(named)}, actor="ana")  # fmt: skip
    assert [row["key"] for row in plan.sample] == [scene.job_of[own]]
    for given in ({"posts": "nonsense"}, {"posts": f"{scene.job_of[own]}:x"}, {"posts": "none", "job_ids": scene.job_of[own]}):  # fmt: skip
        with pytest.raises(UsageError):
            changes.plan(scene.database, "posts.unpublish", given, actor="ana")


def test_while_the_site_is_away_the_articles_are_judged_and_it_says_so(
    scene: PublishedScene, wordpress: WordPressSite
) -> None:
    scene.add_healthy(2)
    cut = scene.add_bad("cut")
    wordpress.fault("answer", status=503, headers={}, body="")
    found = look(scene, deadline_seconds=5)
    assert [post.post_id for post in found.bad_posts] == [cut]
    assert (found.site.verdict, found.bad_posts[0].stands) == ("not_enough_data", "not looked at")
    assert "judged as they were written" in repr(found)


def test_without_rights_it_is_not_allowed_and_without_a_database_it_ends_with_words(
    make_role: MakeRole,
) -> None:
    stranger = make_role()
    found = content_review(Sources(stranger, stranger))
    assert found.verdict == "not_allowed"
    assert "permission denied" in found.check.message
    away = Database("postgresql://runbook:hidden-word@127.0.0.1:1/x")
    found = content_review(Sources(away, away))
    assert found.verdict == "not_enough_data"
    assert "hidden-word" not in found._repr_html_() + str(found.results())
    assert found.to_unpublish() == {"posts": "none"}
    assert "Not known" in repr(found.bad)


def add_job(database: Database, topic: str, minutes: float, **columns: Any) -> None:
    given = {"status": "pending", "key": None, "error_class": None, "source": "cms", **columns}
    with database.transaction() as transaction:
        transaction.run(
            "INSERT INTO content_jobs (topic, created_at, status, idempotency_key, error_class, source, completed_at)"
            " VALUES (%(topic)s, now() - %(minutes)s * interval '1 min', %(status)s, %(key)s, %(error_class)s, %(source)s,"
            " CASE WHEN %(status)s = 'completed' THEN now() END)",
            topic=topic, minutes=minutes, **given,
        )  # fmt: skip


def test_jobs_that_came_twice_are_told_from_topics_that_come_again(scene: PublishedScene) -> None:
    database = scene.database
    sources = Sources(database, database)
    assert duplicate_review(sources, open_site=scene.open_site).verdict == "not_enough_data"
    add_job(database, "The weekly letter", 2_900, status="completed", key="a")
    add_job(database, "The weekly letter", 60, key="b")
    add_job(database, "Alone", 50, status="error", error_class="content_too_alike")
    found = duplicate_review(sources, open_site=scene.open_site)
    assert (found.verdict, found.results()["topics_twice"]) == ("ok", 1)
    add_job(database, "Sent  twice ", 30)
    add_job(database, "sent twice", 25, source="retry")
    found = duplicate_review(sources, open_site=scene.open_site)
    assert found.verdict == "warning"
    results = found.results()
    assert (results["jobs"], results["jobs_with_key"], results["jobs_refused_as_alike"], results["jobs_created_at_once"], results["keys_twice"]) == (5, 2, 1, 1, 0)  # fmt: skip
    first = found.topics.frame.iloc[0]
    assert (first["jobs"], first["producers"], first["without_key"]) == (2, "cms, retry", 2)
    assert "runbook jobs cancel" in first["first_action"]
    assert duplicate_review(sources, within_minutes=1, open_site=scene.open_site).verdict == "ok"
    # Ours cannot hold a key twice; a table of somebody else's may.
    with database.transaction() as transaction:
        transaction.run("DROP INDEX content_jobs_idempotency_key")
    add_job(database, "Another topic", 20, key="b")
    found = duplicate_review(sources, within_minutes=1, open_site=scene.open_site)
    assert (found.verdict, found.results()["keys_twice"]) == ("warning", 1)
    assert "b" in repr(found.keys)


def test_posts_that_are_there_twice_name_the_first_safe_action(scene: PublishedScene) -> None:
    scene.add_healthy(2)
    alike, doubled = scene.add_bad("too alike"), scene.add_bad("doubled")
    found = duplicate_review(Sources(scene.database, scene.database), open_site=scene.open_site)
    assert (found.verdict, found.check.parameters) == ("critical", {"kinds": "doubled"})
    rows = {row["post"]: row["first_action"] for row in found.posts.frame.to_dict("records")}
    assert rows.keys() == {str(alike), str(doubled)}
    assert 'kinds="doubled"' in rows[str(doubled)]
    assert 'kinds="too alike"' in rows[str(alike)]


def test_a_pipeline_that_is_not_ours_says_in_words_what_it_lacks(
    new_database: Any, database: Database, tmp_path: Path
) -> None:
    for shape in (UUID_KEYS, BARE):
        theirs = shape.make(new_database)
        with open_sources(attached_settings(theirs, shape, tmp_path, database)) as sources:
            for found in (duplicate_review(sources), content_review(sources)):
                assert found.verdict in ("ok", "warning", "not_enough_data", "critical")
                assert "does not exist" not in found.check.message
                assert "Not known" in repr(content_review(sources).bad)
