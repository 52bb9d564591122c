"""Slugs carry the job's id, are valid for every topic, and stay the same for ever."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook_lib.pipeline.slugs import in_slug_family, slug_family, slug_for

JOB_ID = "0192f0c0-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("10 Tips for Größe & Maß!", "10-tips-for-groesse-and-mass"),
        ("Как выбрать ноутбук", "kak-vybrat-noutbuk"),
        ("Łódź – naïve café", "lodz-naive-cafe"),
        ("日本語", "post"),
        ("", "post"),
        ("word " * 100, "-".join(["word"] * 20)),
    ],
)
def test_topics_become_plain_words(topic: str, words: str) -> None:
    assert slug_for(topic, JOB_ID) == f"{words}-{JOB_ID}"


@given(st.text())
def test_every_topic_makes_a_slug_that_wordpress_keeps_as_it_is(topic: str) -> None:
    slug = slug_for(topic, JOB_ID)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug)
    assert len(slug) <= 140
    assert slug.endswith(JOB_ID)


def test_the_family_of_a_slug_is_what_wordpress_makes_of_it() -> None:
    assert slug_family("s") == ("s", "s-2", "s-3", "s-4", "s-5")
    assert slug_family("s", trashed=True)[1] == "s-2__trashed"
    assert in_slug_family("s", "s")
    assert in_slug_family("s-12", "s")
    assert not in_slug_family("s-x", "s")
    assert not in_slug_family("other", "s")
