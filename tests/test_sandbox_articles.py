"""The sandbox's articles read like articles about their topic, and say that they are the sandbox's."""

from __future__ import annotations

import csv
import hashlib
import itertools
import re

import pytest
from running_sandbox import RunningSandbox
from writing import job

from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline.content import ContentLimits
from runbook_lib.pipeline.prices import PriceList
from runbook_lib.pipeline.writer import ArticleWriter
from runbook_lib.sandbox.articles import NOTICE, write_article
from runbook_lib.sandbox.briefs import Brief, read_brief
from runbook_lib.sandbox.subjects import read_subject
from runbook_lib.settings import PROJECT_DIRECTORY, Settings

SUBJECTS = (
    "email deliverability", "remote onboarding", "zero-waste kitchens", "PostgreSQL backups", "trail running shoes",
    "school gardens", "invoice automation", "home solar panels", "customer churn", "urban beekeeping",
    "website accessibility", "volunteer rotas", "grant writing", "product photography", "four-day weeks",
)  # fmt: skip
PATTERNS = (
    "How to plan {}",
    "{}",
    "Why {} deserve attention",
    "7 mistakes with {}",
    "What is it about {}?",
)
TOPICS = [pattern.format(subject) for subject in SUBJECTS for pattern in PATTERNS]
SKETCH_SIZE = 64


def _sketch(text: str) -> list[int]:
    """MinHash over shingles of five words."""
    words = re.findall(r"\w+", text.lower())
    shingles = [" ".join(words[at : at + 5]).encode() for at in range(len(words) - 4)]
    digests = [hashlib.blake2b(each, digest_size=8).digest() for each in shingles]
    numbers = [int.from_bytes(digest, "big") for digest in digests]
    masks = [
        int.from_bytes(hashlib.blake2b(bytes([at]), digest_size=8).digest(), "big")
        for at in range(SKETCH_SIZE)
    ]
    return [min(number ^ mask for number in numbers) for mask in masks]


def _likeness(one: list[int], other: list[int]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / SKETCH_SIZE


@pytest.mark.parametrize("topic", [*TOPICS, "x", "???", "Ein Thema auf Deutsch", "日本の鉄道", "A" * 4_000, "<script>alert(1)</script>"])  # fmt: skip
def test_an_article_has_the_parts_and_the_length_of_one(topic: str) -> None:
    article = write_article(
        read_brief({"messages": [{"role": "user", "content": f"Topic: {topic}"}]})
    )
    headings = re.findall(r"(?m)^## .+", article.body_markdown)
    assert 450 <= article.word_count() <= 900
    assert 5 <= len(headings) <= 8
    assert len(set(headings)) == len(headings)
    assert not re.search(r"[{}\[\]<>|]", article.body_markdown + article.title + article.excerpt)
    assert "script>" not in article.title
    assert article.title
    assert article.excerpt.endswith(".")


def test_no_sentence_of_an_article_comes_twice() -> None:
    for topic in TOPICS:
        sentences = re.split(r"(?<=[.?!]) |\n+", write_article(Brief(topic)).body_markdown)
        said = [sentence for sentence in sentences if len(sentence) > 20]
        assert len(set(said)) == len(said), topic


def test_articles_on_different_topics_are_not_alike() -> None:
    sketches = [_sketch(write_article(Brief(topic)).body_markdown) for topic in TOPICS]
    assert max(_likeness(*pair) for pair in itertools.combinations(sketches, 2)) < 0.5


def test_another_seed_gives_another_article_on_the_same_topic() -> None:
    sketches = [
        _sketch(write_article(Brief("Bees", ("hives",)), seed).body_markdown) for seed in range(10)
    ]
    assert max(_likeness(*pair) for pair in itertools.combinations(sketches, 2)) < 0.5


def test_the_brief_shows_in_the_article() -> None:
    brief = Brief("How to choose a CRM", ("donor data", "volunteer records"), "nonprofit managers", "friendly", "Guides")  # fmt: skip
    article = write_article(brief)
    for wanted in ("choosing a CRM", "donor data", "volunteer records", "nonprofit managers"):
        assert wanted.lower() in article.body_markdown.lower()
    assert "choose a CRM" in article.title
    assert article.tags == ("donor data", "volunteer records", "guides", "sandbox")


def test_the_tone_changes_what_is_said() -> None:
    def all_about(tone: str) -> str:
        return " ".join(write_article(Brief(topic, tone=tone)).body_markdown for topic in TOPICS)

    friendly, formal = all_about("Warm and friendly"), all_about("formal")
    assert "Bring a pen" in friendly
    assert "Bring a pen" not in formal
    assert "This article sets out" in formal


def test_an_article_says_in_its_last_sentence_and_by_a_tag_that_it_is_the_sandboxes() -> None:
    article = write_article(Brief("Bees"))
    assert article.body_markdown.strip().strip("*").endswith(NOTICE)
    assert article.tags[-1] == "sandbox"


@pytest.mark.parametrize(
    "content",
    [
        '{"topic": "Bees", "keywords": ["hives", "honey"], "audience": "beginners"}',
        'Write about this:\n{"topic": "Bees", "keywords": "hives, honey", "audience": "beginners"}\nThank you.',
        "Topic: Bees\nKeywords: hives, honey\nAudience: beginners\nTone: none",
        "- **Topic:** Bees\n- **Keywords:** hives; honey\n- **Audience:** beginners",
        "<topic>Bees</topic>\n<keywords>hives, honey</keywords>\n<audience>beginners</audience>",
        [{"type": "text", "text": "Topic: Bees\nKeywords: hives, honey\nReaders: beginners"}],
    ],
)
def test_a_brief_is_found_however_the_prompt_puts_it(content: object) -> None:
    messages = [{"role": "system", "content": "Topic: wrong"}, {"role": "user", "content": content}]
    assert read_brief({"messages": messages}) == Brief("Bees", ("hives", "honey"), "beginners")


def test_a_bare_text_is_the_topic() -> None:
    assert (
        read_brief({"messages": [{"role": "user", "content": "Bees in town\nPlease."}]}).topic
        == "Bees in town"
    )


def test_the_articles_on_all_example_topics_pass_the_content_gate(
    running_sandbox: RunningSandbox,
) -> None:
    """Asked with the worker's own prompt, and each compared with all before it."""
    writer = ArticleWriter(
        f"{running_sandbox.url}/v1",
        lambda: running_sandbox.api_key,
        "gpt-4o-mini",
        limits=ContentLimits.of(Settings()),
        prices=PriceList(),
    )
    sketches: list[tuple[int, ...]] = []
    with (PROJECT_DIRECTORY / "examples" / "topics.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            keywords = [each.strip() for each in row["keywords"].split(";")]
            asked = job(
                topic=row["topic"], keywords=keywords, audience=row["audience"], tone=row["tone"]
            )
            article = writer.write(asked, Deadline.after(30))
            writer.check_article(article, asked, sketches)
            assert keywords[0] in article.tags
            sketches.append(article.likeness_sketch)
    writer.close()
    assert len(sketches) >= 40


@pytest.mark.parametrize(
    ("topic", "phrase"),
    [
        ("How to set up a newsletter", "setting up a newsletter"),
        ("Why backups fail: a field report", "why backups fail"),
        ("7 mistakes with invoices", "mistakes with invoices"),
        ("What is a content brief?", "the question “What is a content brief?”"),
        ("What a bike really costs, insurance included", "what a bike really costs"),
        ("Winter tour or trainer? A comparison", "the question “Winter tour or trainer?”"),
        ("Email marketing", "email marketing"),
        ("PostgreSQL backups", "PostgreSQL backups"),
        ("Pricing pages", "pricing pages"),
    ],
)
def test_a_topic_is_spoken_of_as_people_would(topic: str, phrase: str) -> None:
    assert read_subject(topic).phrase == phrase
