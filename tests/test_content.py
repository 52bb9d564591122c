"""The gate: what must not be paid for, and what must not go out."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

import pytest
from writing import BODY, PROSE, article, job

from runbook_lib.pipeline.content import ContentLimits, check, check_topic
from runbook_lib.pipeline.failures import FAILURE_CLASSES, JobFailed
from runbook_lib.pipeline.languages import FUNCTION_WORDS, is_in_language
from runbook_lib.pipeline.likeness import (
    SKETCH_HASHES,
    estimate_likeness,
    first_likeness,
    likeness_sketch,
    shingles,
    words_of,
)
from runbook_lib.pipeline.model import Article
from runbook_lib.settings import read_settings

SHORT = ContentLimits(minimum_words=20)


def refused(
    given: Article | str, limits: ContentLimits = SHORT, recent: Iterable[Sequence[int]] = ()
) -> str | None:
    """The class of the refusal, or None when the article may go out."""
    try:
        check(article(given) if isinstance(given, str) else given, job(), limits, recent)
    except JobFailed as failed:
        return FAILURE_CLASSES[failed.failure.error_class].name
    return None


def test_a_good_article_may_go_out() -> None:
    assert refused(BODY) is None


# before it is paid for


@pytest.mark.parametrize(
    "topic", ["C", "5", "日本語", "Ärger & Freude?", "x" * 4_000, "emoji 🚀 title"]
)
def test_a_topic_with_a_letter_or_a_digit_can_be_written_about(topic: str) -> None:
    check_topic(job(topic=topic), ContentLimits())


@pytest.mark.parametrize(
    ("topic", "error_class"),
    [
        ("x" * 4_001, "topic_too_long"),
        ("", "topic_unusable"),
        (" \n\t", "topic_unusable"),
        ("?!… —", "topic_unusable"),
        ("🚀🚀", "topic_unusable"),
        ("a\0b", "topic_unusable"),
        ("a\ud800b", "topic_unusable"),
    ],
)
def test_a_topic_that_cannot_be_written_about_is_refused_by_class(
    topic: str, error_class: str
) -> None:
    with pytest.raises(JobFailed) as caught:
        check_topic(job(topic=topic), ContentLimits())
    assert caught.value.failure.error_class == error_class
    assert len(str(caught.value)) < 200


# whole


@pytest.mark.parametrize(
    ("given", "error_class"),
    [
        (article(finish_reason="length"), "content_truncated"),
        (article(finish_reason="content_filter"), "openai_content_filtered"),
        (article(title=" "), "content_empty"),
        (article(""), "content_empty"),
        (article("---\n\n***"), "content_empty"),
    ],
)
def test_half_an_article_is_refused(given: Article, error_class: str) -> None:
    assert refused(given) == error_class


def test_fewer_words_than_the_minimum_are_refused_and_as_many_are_not() -> None:
    words = article().word_count
    assert refused(BODY, ContentLimits(minimum_words=words)) is None
    assert refused(BODY, ContentLimits(minimum_words=words + 1)) == "content_too_short"


def test_the_limits_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_MINIMUM_WORDS", "7")
    monkeypatch.setenv("RUNBOOK_LANGUAGE", "de-AT")
    assert ContentLimits.of(read_settings(None)) == ContentLimits(language="de-AT", minimum_words=7)
    monkeypatch.undo()
    assert ContentLimits.of(read_settings(None)) == ContentLimits()


# words


@pytest.mark.parametrize(
    ("text", "count"),
    [("It's a well-known fact.", 4), ("", 0), ("— …", 0), ("为团队选择", 3), ("ＡＢＣ def", 2)],
)
def test_words_are_counted_in_each_script(text: str, count: int) -> None:
    assert len(words_of(text)) == count


# repetition


def test_a_paragraph_that_comes_again_and_again_is_refused() -> None:
    assert refused(f"{PROSE['en']}\n\n" * 3) == "content_repetitive"


def test_one_paragraph_that_stands_twice_in_a_long_article_is_refused() -> None:
    chance = random.Random(1)
    long = "\n\n".join(
        " ".join(
            f"{word} w{chance.randrange(10**6)}" for word in ("the", "of", "and", "to", "with")
        )
        for _ in range(100)
    )
    paragraph = BODY.split("\n\n")[2]
    assert refused(f"{BODY}\n\n{long}") is None
    assert refused(f"{BODY}\n\n{long}\n\n{paragraph}") == "content_repetitive"


def test_a_loop_inside_one_paragraph_is_refused() -> None:
    assert refused(PROSE["en"] + " And the team is happy with it." * 12) == "content_repetitive"


def test_the_same_sentence_in_every_section_is_refused() -> None:
    sentence = "It is important to remember that every team is different and has needs of its own."
    sections = [
        f"## Step {number}\n\nNumber {number} is about part {number}. {sentence}"
        for number in range(9)
    ]
    assert refused("\n\n".join([BODY, *sections])) == "content_repetitive"


def test_labels_lists_and_one_sentence_said_twice_are_no_repetition() -> None:
    again = "".join(
        f"\n\n**Pros**\n\n- thing {number} of them\n\n**Cons**\n\n- its price {number * 7}"
        for number in range(4)
    )
    assert refused(f"{BODY}{again}\n\nAsk three people how they work today.") is None


# likeness


def test_an_article_that_is_nearly_a_recent_one_is_refused() -> None:
    changed = BODY.replace("three people", "four people")
    assert refused(changed, recent=[likeness_sketch(PROSE["de"]), likeness_sketch(BODY)]) == (
        "content_too_alike"
    )


def test_another_article_on_the_same_topic_is_not_refused() -> None:
    other = f"{PROSE['en']}\n\n" + BODY.split("\n\n", 1)[1].replace("step", "task").replace(
        "the", "a"
    )
    assert 0.05 < estimate_likeness(likeness_sketch(BODY), likeness_sketch(other)) < 0.8
    assert refused(BODY, recent=[likeness_sketch(other), ()]) is None


@pytest.mark.parametrize("changed_words", [0, 2, 10, 40, 150])
@pytest.mark.parametrize("length", [90, 1_000])
def test_the_estimate_is_near_the_jaccard_index_of_the_shingles(
    changed_words: int, length: int
) -> None:
    chance = random.Random(changed_words)
    words = [f"w{chance.randrange(5_000)}" for _ in range(length)]
    other = list(words)
    for _ in range(changed_words):
        other[chance.randrange(length)] = "changed"
    one, two = set(shingles(words)), set(shingles(other))
    exact = len(one & two) / len(one | two)
    found = estimate_likeness(likeness_sketch(" ".join(words)), likeness_sketch(" ".join(other)))
    # Short texts are sketched whole, so their estimate is exact; else three standard errors.
    assert found == pytest.approx(exact, abs=1e-9 if length < SKETCH_HASHES else 0.14)


@pytest.mark.parametrize("length", [50, 500])
def test_a_text_inside_a_longer_one_is_judged_by_what_is_known_of_both(length: int) -> None:
    words = [f"w{number}" for number in range(1_000)]
    found = estimate_likeness(
        likeness_sketch(" ".join(words)), likeness_sketch(" ".join(words[:length]))
    )
    assert found == pytest.approx((length - 4) / 996, abs=0.1)


@pytest.mark.parametrize("length", [20, 90, 400])
def test_the_quick_way_over_many_finds_what_the_full_estimate_finds(length: int) -> None:
    chance = random.Random(length)
    words = [f"w{number}" for number in range(length)]
    own = likeness_sketch(" ".join(words))
    for _ in range(100):
        other = [f"x{chance.random()}" if chance.random() < 0.05 else word for word in words]
        sketch = likeness_sketch(" ".join(other[: chance.randrange(length // 2, length + 1)]))
        exact = estimate_likeness(own, sketch)
        limit = chance.choice([0.5, exact, max(0.01, exact - 0.01), min(1, exact + 0.01)]) or 0.5
        assert first_likeness(own, [(), sketch], limit) == (exact if exact >= limit else None)


def test_a_sketch_fits_a_bigint_array_and_is_the_same_everywhere() -> None:
    sketch = likeness_sketch(BODY)
    assert len(sketch) <= SKETCH_HASHES
    assert all(-(2**63) <= each < 2**63 for each in sketch)
    assert list(sketch) == sorted(set(sketch))
    assert likeness_sketch("one two three four five")[0] == 4475916206259131367


def test_case_and_punctuation_do_not_make_a_text_another() -> None:
    loud = re.sub(r"[.,]", "!", PROSE["en"].upper())
    assert estimate_likeness(likeness_sketch(loud), likeness_sketch(PROSE["en"])) == 1


# language


@pytest.mark.parametrize("written", list(PROSE))
@pytest.mark.parametrize("wanted", list(FUNCTION_WORDS))
def test_each_language_is_told_from_each_other(written: str, wanted: str) -> None:
    expected = None if written == wanted else "content_wrong_language"
    assert refused(PROSE[written], ContentLimits(language=wanted, minimum_words=20)) == expected


@pytest.mark.parametrize("code", ["sv", "ja", "xx", ""])
def test_a_language_without_a_profile_is_not_judged(code: str) -> None:
    assert refused(BODY, ContentLimits(language=code, minimum_words=20)) is None


@pytest.mark.parametrize("code", ["en-GB", "en_US", "EN"])
def test_a_regional_code_is_its_language(code: str) -> None:
    assert refused(BODY, ContentLimits(language=code, minimum_words=20)) is None


def test_code_in_another_language_than_the_article_does_not_count() -> None:
    code = "```\n" + "le la les des une un du et est dans\n" * 60 + "```"
    assert refused(f"{BODY}\n\n{code}") is None


def test_a_few_words_are_not_judged() -> None:
    assert is_in_language(words_of("Der Hund und die Katze"), "en")


# left-overs


@pytest.mark.parametrize(
    "leftover",
    [
        "As an AI language model, I cannot have opinions.",
        "As a large language model I do not know prices.",
        "My knowledge cutoff is in 2023.",
        "Dear {{ first_name }}, welcome.",
        "{% if x %}hello{% endif %}",
        "Ask [Insert company name] for it.",
        "Ask [Your Company] for it.",
        "See [link to the study].",
        "[INST] Write more. [/INST]",
        "And so on.<|im_end|>",
        "Lorem ipsum dolor sit amet.",
    ],
)
def test_what_a_prompt_or_a_template_left_is_refused_wherever_it_stands(leftover: str) -> None:
    assert refused(BODY.replace("Ask three", f"{leftover} Ask three")) == "content_leftovers"


@pytest.mark.parametrize(
    "opening",
    [
        "Sure, here is the article you asked for:",
        "Certainly! Here's a blog post about CRMs.",
        "Here is your article:",
        "Of course! I have written it below.",
        "I'm sorry, but I cannot browse the web.",
        "I would be happy to help with that.",
    ],
)
def test_an_assistants_opening_is_refused(opening: str) -> None:
    assert refused(f"{opening}\n\n{BODY}") == "content_leftovers"


@pytest.mark.parametrize(
    "closing",
    [
        "I hope this helps!",
        "Let me know if you would like any changes.",
        "Word count: 812",
        "Would you like me to add a section?",
    ],
)
def test_an_assistants_closing_is_refused(closing: str) -> None:
    assert refused(f"{BODY}\n\n{closing}") == "content_leftovers"


@pytest.mark.parametrize(
    "markdown",
    [
        '{"title": "x", "body": "y"}',
        f"```markdown\n{BODY}\n```",
        f"{BODY}\n\n```python\nprint(1)",
        "<h2>Why</h2><p>Text of it.</p>" + BODY,
        BODY.replace("## ", "##"),
        BODY + "\n\n** a**, ** b** and ** c**",
        BODY + "\n\nSee [this](javascript:alert(1)).",
        BODY + "\n\nA table:\n| a | b |\n|---|\n| 1 | 2 |",
    ],
)
def test_what_is_not_markdown_that_can_be_shown_is_refused(markdown: str) -> None:
    assert refused(markdown) == "content_leftovers"


def test_a_placeholder_in_the_title_is_refused() -> None:
    assert refused(article(title="Welcome to [Company Name]")) == "content_leftovers"


@pytest.mark.parametrize(
    "passage",
    [
        "Templates write `{{ name }}` where the name goes.",
        "```\nDear [Your name],\n{{ text }} <div></div><p></p><b></b>\n```",
        "See [your options](https://e.example) and [1].",
        "Sure footing matters on ice. Certainly, it does.",
        "Here is what an article needs. I am sorry for those who wait.",
        "A model such as GPT is an AI language model, and its makers say so.",
        "The <div> element, a < b, `**bold**` and 2 ** 3.",
        "~~~\n```\ncode\n```\n~~~",
    ],
)
def test_what_an_article_may_well_say_is_not_refused(passage: str) -> None:
    assert refused(BODY.replace("## What it costs", f"{passage}\n\n## What it costs")) is None
    assert refused(f"{passage}\n\n{BODY}") is None


def test_a_refusal_never_quotes_the_article() -> None:
    secret = "Xylophonquartett"
    for body in (f"{secret} {{{{ x }}}} {BODY}", f"{secret} word. " * 80, f'{{"a": "{secret}"}}'):
        with pytest.raises(JobFailed) as caught:
            check(article(body), job(topic=secret), SHORT, [])
        assert secret not in str(caught.value)
