"""A model's answer is read as an article, whatever it is wrapped into."""

from __future__ import annotations

import json

import pytest
from writing import BODY

from runbook_lib.pipeline.article_text import ArticleText, UnreadableArticle, read_article

FIELDS = {
    "title": "Ten tips",
    "excerpt": "In short.",
    "body_markdown": "Body.\n\nMore.",
    "tags": ["a", "b"],
}
READ = ArticleText("Ten tips", "In short.", "Body.\n\nMore.", ("a", "b"))


def read(answer: str) -> ArticleText:
    return read_article(answer, "The topic", ["Key word", "other"])


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps(FIELDS),
        f"\ufeff  {json.dumps(FIELDS)}\n",
        f"```json\n{json.dumps(FIELDS, indent=2)}\n```",
        f"```\n{json.dumps(FIELDS)}\n```",
        f"Sure, here is the JSON:\n\n{json.dumps(FIELDS)}\n",
        json.dumps({"article": FIELDS}),
        json.dumps({"headline": "Ten tips", "summary": "In short.", "content": "Body.\n\nMore.", "keywords": "a, b"}),
        json.dumps(FIELDS | {"body_markdown": "# Ten tips\n\nBody.\n\nMore."}),
        json.dumps(FIELDS | {"body_markdown": "```markdown\nBody.\n\nMore.\n```"}),
        json.dumps(FIELDS | {"body_markdown": "Body.\\n\\nMore."}),
        json.dumps(FIELDS | {"body_markdown": "Body.\r\n\r\nMore."}),
        json.dumps(FIELDS | {"status": "publish", "slug": "x", "categories": [1], "author": 1}),
        json.dumps(FIELDS).replace("\\n", "\n"),
        f"<think>{{\"title\": \"no\"}} hm</think>\n{json.dumps(FIELDS)}",
        "---\ntitle: \"Ten tips\"\nexcerpt: In short.\ntags: [a, b]\n---\n\nBody.\n\nMore.",
    ],
)  # fmt: skip
def test_an_article_is_found_in_each_wrapping(answer: str) -> None:
    assert read(answer) == READ


@pytest.mark.parametrize(
    "answer",
    ["# Ten tips\n\nBody *one*.\n\nMore.", "Ten tips\n===\n\nBody *one*.\n\nMore.", "**Ten tips**\n\nBody *one*.\n\nMore.", "Title: Ten tips\n\nBody *one*.\n\nMore.", "```md\n# Ten tips\n\nBody *one*.\n\nMore.\n```", "<think>\nA plan.\n</think>\n\n# Ten tips\n\nBody *one*.\n\nMore."],
)  # fmt: skip
def test_plain_markdown_gives_its_heading_its_first_paragraph_and_the_keywords(answer: str) -> None:
    assert read(answer) == ArticleText(
        "Ten tips", "Body one.", "Body *one*.\n\nMore.", ("Key word", "other")
    )


def test_an_article_without_a_heading_is_called_by_its_topic() -> None:
    assert read("Body.\n\n## A part\n\nMore.").title == "The topic"


def test_an_article_about_json_is_not_taken_for_json() -> None:
    markdown = f"# On JSON\n\n{BODY}\n\n```json\n{json.dumps({'title': 'x', 'body': 'y'})}\n```"
    assert read(markdown).title == "On JSON"


@pytest.mark.parametrize(
    "answer", ['{"title": "Ten tips", "body_markdown": "Bo', '{"title": }', '{"a": [1, 2]']
)
def test_json_that_breaks_off_is_no_article(answer: str) -> None:
    with pytest.raises(UnreadableArticle):
        read(answer)


def test_json_without_a_body_is_an_empty_article() -> None:
    assert read('{"title": "Ten tips"}').body_markdown == ""


def test_what_postgresql_and_readers_cannot_take_is_gone() -> None:
    body = "A\0b\ud800c\u202ed\u200be\U000e0041f \x1b[31mg\tend"
    found = read(json.dumps(FIELDS | {"title": body, "body_markdown": body, "tags": [body]}))
    for text in (found.title, found.body_markdown, *found.tags):
        assert text.encode("utf-8")
        assert not set(text) & set("\0\ud800\u202e\u200b\U000e0041\x1b")
    assert "\tend" in found.body_markdown


def test_tags_are_few_distinct_and_plain() -> None:
    tags = ["CRM", "crm", "#Sales", "<b>x</b>", "[gallery]", "a,b", "", "!!", None, 7, *"cdefghij"]
    found = read(json.dumps(FIELDS | {"tags": tags})).tags
    assert found == ("CRM", "Sales", "x", "(gallery)", "a b", "c", "d", "e")


def test_a_megabyte_of_opening_braces_is_read_in_passing() -> None:
    with pytest.raises(UnreadableArticle):
        read("{" * 1_000_000)
