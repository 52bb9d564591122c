"""Whether each figure that an answer cites can be had again from what it cites."""

from __future__ import annotations

from functools import cache
from typing import Any

from runbook_lib.database.statements import load
from runbook_lib.health.context import Context
from runbook_lib.triage.diagnosis import Diagnosis
from runbook_lib.triage.facts import Fact


def compare_figures(context: Context, diagnosis: Diagnosis) -> dict[str, Any]:
    """How many figures the causes cite, how many could be had again, and which could not."""
    del context
    cited = [fact for each in diagnosis.causes for fact in each.evidence]
    amiss = [f"{fact.name}: {problem}" for fact in cited if (problem := _problem(fact))]
    return {"figures": len(cited), "figures_amiss": amiss}


def _problem(fact: Fact) -> str | None:
    cited = fact.cited()
    if "probe" in cited:
        return None if cited["probe"] else "no statement or probe is named"
    file, _, name = str(cited["statement"]).partition(".")
    name = name.split()[0].rstrip(",;:")
    return None if name in _names(file) else f"{cited['statement']} is no statement"


@cache
def _names(file: str) -> frozenset[str]:
    try:
        return frozenset(load(file))
    except FileNotFoundError:
        return frozenset()
