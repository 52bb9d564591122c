"""Failures of a pipeline that stores texts only: grouped by their cause instead of by their letters.

The rollup groups such failures by their text; here each group gets the fingerprint of its cause, and the
scenario of the error guide in the place of the class that nobody stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runbook_lib.pipeline.error_guide import UNKNOWN, scenario_of_text
from runbook_lib.pipeline.fingerprints import TemplateTree

TEXT_KEY = "text:"
UNCLASSED = "unclassed"
# As many of a cause's jobs are kept by hash, the smallest ones; `metrics` counts distinct jobs by them.
MOST_JOB_HASHES = 64

_Cause = tuple[str, str]


def has_texts(samples: Iterable[dict[str, Any]]) -> bool:
    """Whether any of the groups is one of texts."""
    return any(sample["fingerprint"].startswith(TEXT_KEY) for sample in samples)


def by_cause(
    failures: list[dict[str, Any]], samples: list[dict[str, Any]], tree: TemplateTree
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Failures and samples as `summarise` gives them, with groups of texts joined by their cause."""
    causes = {_key(sample): _cause(sample, tree) for sample in samples}
    return _joined(failures, causes), _newest(samples, causes)


def _key(row: dict[str, Any]) -> _Cause:
    return row["error_class"], row["fingerprint"]


def _cause(sample: dict[str, Any], tree: TemplateTree) -> _Cause:
    error_class, fingerprint = _key(sample)
    if not fingerprint.startswith(TEXT_KEY):
        return error_class, fingerprint
    text = sample["sample"] or ""
    scenario = scenario_of_text(text)
    if error_class == UNCLASSED and scenario is not UNKNOWN:
        error_class = scenario.id
    return error_class, tree.identify_text(text)


def _joined(failures: list[dict[str, Any]], causes: dict[_Cause, _Cause]) -> list[dict[str, Any]]:
    found: dict[tuple[str, _Cause], dict[str, Any]] = {}
    for row in failures:
        cause = causes.get(_key(row), _key(row))
        slot = found.get((row["begins"], cause))
        if slot is None:
            found[row["begins"], cause] = {**row, "error_class": cause[0], "fingerprint": cause[1]}
            continue
        slot["attempts"] += row["attempts"]
        hashes = sorted({*slot["job_hashes"], *row["job_hashes"]})
        slot["job_hashes"] = hashes[:MOST_JOB_HASHES]
        slot["first_seen"] = min(slot["first_seen"], row["first_seen"])
        slot["last_seen"] = max(slot["last_seen"], row["last_seen"])
    return list(found.values())


def _newest(samples: list[dict[str, Any]], causes: dict[_Cause, _Cause]) -> list[dict[str, Any]]:
    found: dict[_Cause, dict[str, Any]] = {}
    for row in sorted(samples, key=lambda sample: str(sample["seen_at"])):
        cause = causes[_key(row)]
        found[cause] = {**row, "error_class": cause[0], "fingerprint": cause[1]}
    return list(found.values())
