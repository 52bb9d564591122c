"""Whether each figure that an answer cites can be had again from what it cites.

The evidence is written to a file as `runbook triage --save` does, read again, and the diagnosis made anew from
nothing else. Each statement that is cited must also run by itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg2

from runbook_lib.database.statements import find_statement
from runbook_lib.errors import RunbookError
from runbook_lib.health.context import Context
from runbook_lib.triage import kept_evidence
from runbook_lib.triage.diagnosis import Diagnosis, assess
from runbook_lib.triage.evidence import ask
from runbook_lib.triage.facts import Fact


def compare_figures(context: Context, diagnosis: Diagnosis) -> dict[str, Any]:
    """How many figures the causes cite, and which of them could not be had again."""
    cited = [fact for each in diagnosis.causes for fact in each.evidence]
    with TemporaryDirectory() as directory:
        file = Path(directory) / "evidence.json"
        kept_evidence.keep(diagnosis, file)
        _, evidence = kept_evidence.read(file)
    anew = assess(evidence, context.policy)
    amiss = [f"{fact.name}: {problem}" for fact in cited if (problem := _problem(fact, anew))]
    amiss += _that_do_not_run(context, {str(fact.cited().get("statement")) for fact in cited})
    return {"figures": len(cited), "figures_amiss": amiss}


def _problem(fact: Fact, anew: Diagnosis) -> str | None:
    """What differs when the fact is made from the kept evidence."""
    again = anew.facts.by_name.get(fact.name)
    if not fact.source:
        return "no statement or probe is named"
    if again is None:
        return "it is not stated from the kept evidence"
    told, found = _plain(fact), _plain(again)
    return None if told == found else f"{told}, recomputed {found}"


def _plain(fact: Fact) -> Any:
    return json.loads(json.dumps([fact.holds, fact.value, fact.threshold], default=str))


def _that_do_not_run(context: Context, cited: set[str]) -> list[str]:
    found = []
    for title in sorted(cited - {"None"}):
        statement = find_statement(title)
        if statement is None:
            found.append(f"{title} is no statement")
            continue
        try:
            ask(statement, context.settings)
        except (RunbookError, psycopg2.OperationalError):
            # The fault keeps it from being asked now; a moment ago it was.
            continue
    return found
