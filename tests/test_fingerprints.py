"""Fingerprints: one id a cause, whatever stands in the text, in every process and for good."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import failure_messages
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_worker import add, failing, options, rows, runs, work

from runbook_lib.database.connection import Database
from runbook_lib.pipeline import failure_templates
from runbook_lib.pipeline.error_guide import (
    SCENARIOS,
    UNKNOWN,
    scenario_of_class,
    scenario_of_text,
)
from runbook_lib.pipeline.failures import FAILURE_CLASSES, Failure
from runbook_lib.pipeline.fingerprints import MOST_TEMPLATES_A_KEY, TemplateTree

VARIANTS = 50


def grouped(corpus: dict[str, failure_messages.Make], seed: int) -> tuple[float, list[set[str]]]:
    """The share of texts whose group is exactly their cause, and the causes that were merged."""
    texts = [
        (cause, text)
        for number, (cause, make) in enumerate(corpus.items())
        for text in failure_messages.variants(make, VARIANTS, number)
    ]
    random.Random(seed).shuffle(texts)
    tree, groups, causes = TemplateTree(), defaultdict(Counter), defaultdict(set)
    for cause, text in texts:
        found = tree.identify_text(text)
        groups[cause][found] += 1
        causes[found].add(cause)
    exact = sum(
        sum(counts.values())
        for counts in groups.values()
        if len(counts) == 1 and len(causes[next(iter(counts))]) == 1
    )
    return exact / len(texts), [found for found in causes.values() if len(found) > 1]


def test_a_quarter_of_the_causes_was_written_after_the_rules() -> None:
    seen, unseen = len(failure_messages.SEEN), len(failure_messages.UNSEEN)
    assert seen + unseen >= 60
    assert unseen >= (seen + unseen) / 4


@pytest.mark.parametrize(
    ("corpus", "seed"),
    [
        (failure_messages.UNSEEN, 1),
        ({**failure_messages.SEEN, **failure_messages.UNSEEN}, 2),
    ],
    ids=["unseen", "all"],
)
def test_texts_are_grouped_by_their_cause_and_no_two_causes_merge(
    corpus: dict[str, failure_messages.Make], seed: int
) -> None:
    exact, merged = grouped(corpus, seed)
    assert not merged
    assert exact >= 0.95


def test_columns_decide_before_any_text() -> None:
    tree = TemplateTree()
    one = Failure(
        "openai_rate_limited", "Try again later.", http_status=429, provider_code="tokens"
    )
    assert tree.identify(one) == tree.identify(one)
    others = [
        Failure("openai_quota_exhausted", one.message, http_status=429, provider_code="tokens"),
        Failure("openai_rate_limited", one.message, http_status=429, provider_code="requests"),
        Failure("openai_rate_limited", one.message, http_status=503, provider_code="tokens"),
        Failure(
            "openai_rate_limited",
            one.message,
            http_status=429,
            provider_code="tokens",
            stage="publish",
        ),
    ]
    assert len({tree.identify(each) for each in (one, *others)}) == 5


def test_an_id_stays_when_its_template_widens_and_after_a_restart(database: Database) -> None:
    first = TemplateTree()
    found = first.identify_text("Failed to publish article Winter cycling: the plan has no place")
    again = first.identify_text("Failed to publish article Ten gardens: the plan has no place")
    assert again == found
    with database.transaction() as transaction:
        first.saved(failure_templates.save(transaction, first))
    assert not first.unsaved()
    later = TemplateTree()
    with database.transaction(read_only=True) as transaction:
        failure_templates.learn(transaction, later)
    text = "Failed to publish article Museums of Lisbon worth a morning: the plan has no place"
    assert later.identify_text(text) == found


def test_two_processes_that_met_a_new_cause_at_once_agree_afterwards(database: Database) -> None:
    trees = [TemplateTree(), TemplateTree()]
    texts = [
        f"No room for {title} in the plan of the week" for title in ("Winter cycling", "Sleep")
    ]
    apart = [tree.identify_text(text) for tree, text in zip(trees, texts, strict=True)]
    assert apart[0] != apart[1]
    for _ in range(2):  # each learns what both know, and stores what follows from it
        for tree in trees:
            with database.transaction() as transaction:
                failure_templates.learn(transaction, tree)
                tree.saved(failure_templates.save(transaction, tree))
    for text in (*texts, "No room for Reading with children in the plan of the week"):
        assert trees[0].identify_text(text) == trees[1].identify_text(text)
    joined = rows(database, "SELECT joined FROM failure_templates WHERE joined IS NOT NULL")
    assert [row.joined for row in joined] == [trees[0].identify_text(texts[0])]


@given(st.text(max_size=300))
def test_any_text_has_a_fingerprint_and_the_same_one_again(text: str) -> None:
    tree = TemplateTree()
    assert tree.identify_text(text) == tree.identify_text(text)


@pytest.mark.parametrize(
    "piece", ["a_", "(", "'", '"x', "1.", "-a", "/b", "<c ", "::1", "at.b.", "x=("]
)
def test_a_text_made_to_be_slow_is_not(piece: str) -> None:
    TemplateTree().identify_text(piece * 50_000)  # a pattern that explodes would never come back


def test_texts_without_end_do_not_fill_the_memory() -> None:
    tree = TemplateTree()
    words = [f"{chr(97 + number % 26)}{chr(97 + number // 26)}" * 4 for number in range(26 * 20)]
    found = {tree.identify_text(" ".join(words[at : at + 4])) for at in range(0, 500, 1)}
    assert len(found) <= MOST_TEMPLATES_A_KEY + 1


def test_a_worker_stores_the_fingerprint_with_the_failure(database: Database) -> None:
    add(database, 3, max_retries=0)
    message = failing("wordpress_category_missing", http_status=200)
    assert work(database, message, options()) == 1
    found = {run.fingerprint for run in runs(database)}
    assert len(found) == 1
    (template,) = rows(database, "SELECT * FROM failure_templates")
    assert {template.fingerprint} == found
    assert template.sample == "as the test asks"


def test_a_lost_attempt_has_its_fingerprint_as_well(database: Database) -> None:
    rows(
        database,
        "INSERT INTO content_jobs (topic, status, attempt, worker, lease_until, started_at) "
        "VALUES ('a', 'processing', 1, 'gone', now() - interval '1 minute', now()) RETURNING job_id",
    )
    work(database, failing("topic_unusable"), options())
    lost = next(run for run in runs(database) if run.status == "lost")
    assert lost.fingerprint
    assert lost.error_class == "worker_lost"


def test_a_secret_in_a_foreign_text_is_not_kept(database: Database) -> None:
    tree = TemplateTree()
    secret = "sk-proj-" + "Ab3" * 14
    tree.identify_text(f"Incorrect API key provided: {secret}")
    with database.transaction() as transaction:
        failure_templates.save(transaction, tree)
    (kept,) = rows(database, "SELECT sample, words, key FROM failure_templates")
    assert secret not in f"{kept}"


def test_every_failure_class_belongs_to_one_scenario() -> None:
    named = [name for scenario in SCENARIOS for name in scenario.classes]
    assert sorted(named) == sorted(FAILURE_CLASSES)
    assert scenario_of_class(None) is UNKNOWN


@pytest.mark.parametrize(
    ("text", "scenario"),
    [
        ("Insufficient quota: You exceeded your current quota", "openai_quota"),
        ("Rate limit reached for gpt-4o on tokens per min (TPM)", "openai_rate_limit"),
        ("Invalid API key", "openai_key"),
        ("401 incorrect_password: The provided password is an invalid application password.", "wordpress_login"),
        ("503 Server Error for url: https://blog.example.com/wp-json/wp/v2/posts", "wordpress_site"),
        ("Category 'Travel' not found", "wordpress_category"),
        ('FATAL:  too many connections for role "worker"', "database_connections"),
        ("deadlock detected", "database_deadlock"),
        ("canceling statement due to statement timeout", "database_timeout"),
        ("The worker host1:77 vanished during attempt 2.", "stuck_jobs"),
        ("Duplicate content: like job 7", "duplicate_content"),
        ("Function exceeded its wall clock limit of 150 s", "slow_jobs"),
        ("The flux capacitor is not aligned", "unknown"),
        (None, "unknown"),
    ],
)  # fmt: skip
def test_a_text_of_the_written_runbooks_scenarios_finds_its_guide(
    text: str | None, scenario: str
) -> None:
    assert scenario_of_text(text).id == scenario
