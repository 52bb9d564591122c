"""Grouping of failures: texts of 90 causes, a quarter of them written after the rules were frozen."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections import defaultdict

from benchmarks.figures import report
from runbook_lib.pipeline.fingerprints import TemplateTree
from runbook_lib.settings import PROJECT_DIRECTORY

sys.path.insert(0, str(PROJECT_DIRECTORY / "tests"))

import failure_messages

VARIANTS = 50
ORDERS = 10


def main() -> None:
    """Groups every text by itself, in ten orders; beside it, the raw text as the written runbook groups."""
    both = {**failure_messages.SEEN, **failure_messages.UNSEEN}
    for name, corpus in (("all causes", both), ("causes unseen by the rules", failure_messages.UNSEEN)):  # fmt: skip
        results = [grouped(corpus, order) for order in range(ORDERS)]
        exact = [result[0] for result in results]
        merged = sum(result[1] for result in results)
        raw = statistics.median(result[2] for result in results)
        report(
            f"fingerprints, {name}, texts grouped exactly",
            100 * min(exact),
            "percent",
            ratio=len(corpus) / raw,
            against=f"groups of the raw text ({raw:g}, of {len(corpus)} causes)",
            bar="≥ 95 %, no two causes merged",
            met=min(exact) >= 0.95 and merged == 0,
            samples=results,
        )
    report("fingerprint of a text", 1e6 * seconds_a_text(both), "µs")


def texts_of(corpus: dict[str, failure_messages.Make]) -> list[tuple[str, str]]:
    return [
        (cause, text)
        for number, (cause, make) in enumerate(corpus.items())
        for text in failure_messages.variants(make, VARIANTS, number)
    ]


def grouped(corpus: dict[str, failure_messages.Make], order: int) -> tuple[float, int, int]:
    """The share grouped exactly, how many groups hold two causes, how many groups the raw text has."""
    texts = texts_of(corpus)
    random.Random(order).shuffle(texts)
    tree, groups, causes = TemplateTree(), defaultdict(set), defaultdict(set)
    for cause, text in texts:
        found = tree.identify_text(text)
        groups[cause].add(found)
        causes[found].add(cause)
    alone = [cause for cause, found in groups.items() if len(found) == 1 and causes[min(found)] == {cause}]  # fmt: skip
    merged = sum(len(found) > 1 for found in causes.values())
    return len(alone) / len(corpus), merged, len({text for _, text in texts})


def seconds_a_text(corpus: dict[str, failure_messages.Make]) -> float:
    tree, texts = TemplateTree(), texts_of(corpus)
    begun = time.perf_counter()
    for _, text in texts:
        tree.identify_text(text)
    return (time.perf_counter() - begun) / len(texts)


if __name__ == "__main__":
    main()
