"""What WordPress stored is compared with what was asked: entities and spaces do not count, words do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runbook_lib.pipeline.model import Post
from runbook_lib.pipeline.post_comparison import PostRequest, differences, missing_categories

CONTENT = '<p>One &amp; two “three”</p>\n<p><a href="https://example.test/?a=1&amp;b=2" rel="noopener">link</a></p>\n<!-- runbook-job:1 -->'
ASKED = PostRequest("A &amp; B", CONTENT, "Excerpt", "slug", (4,), (7, 8))
STORED = Post(
    1, "draft", "slug", "https://example.test/?p=1", 3, (4,), (7, 8), "A &amp; B", CONTENT
)


@pytest.mark.parametrize(
    "stored",
    [
        STORED,
        replace(STORED, slug="slug-2"),
        replace(STORED, category_ids=(4, 9)),
        replace(STORED, title="A & B"),
        replace(STORED, content=CONTENT.replace("“", "&#8220;").replace("\n", "\n\n  ")),
        replace(STORED, content=CONTENT.replace(' rel="noopener"', ' rel="nofollow"')),
    ],
)
def test_what_reads_the_same_does_not_differ(stored: Post) -> None:
    assert differences(ASKED, stored, author_id=3) == []
    assert missing_categories(ASKED, stored) == ()


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        (replace(STORED, status="publish"), "status"),
        (replace(STORED, slug="other"), "slug"),
        (replace(STORED, author_id=4), "author"),
        (replace(STORED, tag_ids=(7,)), "tags 8"),
        (replace(STORED, title="A"), "title"),
        (replace(STORED, content=CONTENT.replace("two", "too")), "'One & too"),
        (replace(STORED, content=CONTENT.replace("a=1", "a=2")), "a=2"),
        (replace(STORED, content=CONTENT.replace("<p>", "")), "content"),
        (
            replace(STORED, content=CONTENT.replace("<!-- runbook-job:1 -->", "")),
            "'nothing more' was stored",
        ),
        (replace(STORED, content=""), "content"),
    ],
)
def test_what_reads_otherwise_is_named(stored: Post, told: str) -> None:
    found = differences(ASKED, stored, author_id=3)
    assert len(found) == 1
    assert told in found[0]


def test_dropped_categories_are_counted_apart() -> None:
    assert missing_categories(ASKED, replace(STORED, category_ids=())) == (4,)
