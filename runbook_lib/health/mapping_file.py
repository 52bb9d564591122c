"""The mapping file: TOML, commented, for a person to read and correct."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from runbook_lib.health.mapping import Mapped, Proposal
from runbook_lib.health.vocabulary import (
    JOB_COLUMNS,
    JOB_STATUSES,
    MINIMUM,
    RUN_COLUMNS,
    RUN_STATUSES,
)


def as_toml(proposal: Proposal, source: str) -> str:
    """The mapping file: commented, to be read and corrected by a person before use."""
    lines = [
        f"# How {source} maps to the workbench's `jobs` and `runs`.",
        "# Proposed by `runbook doctor --propose-mapping` from names and values: read it before you use it.",
        "# Left of = stands our name, right of it theirs.",
        "",
        *_relation_as_toml("jobs", proposal.jobs, JOB_COLUMNS, JOB_STATUSES),
    ]
    if proposal.runs is None:
        lines.append(
            "# [runs]: no history of attempts was found, and the jobs have no time of their end."
        )
    else:
        lines += _relation_as_toml("runs", proposal.runs, RUN_COLUMNS, RUN_STATUSES)
    lines.append(
        "# With this mapping these statements work: "
        + (", ".join(proposal.working()) or "none")
        + "."
    )
    lines += [
        f"# Not: {statement} (lacks {', '.join(absent)})."
        for statement, absent in proposal.missing().items()
    ]
    return "\n".join(lines) + "\n"


def _relation_as_toml(
    ours: str, mapped: Mapped, vocabulary: Mapping[str, Any], statuses: Sequence[str]
) -> list[str]:
    comments = [f"# {_in_comment(note)}" for note in mapped.notes]
    columns = [
        f"{name} = {_string(mapped.columns[name])}"
        if name in mapped.columns
        else f"# {name}: no column fits; checks that need it answer not_enough_data"
        for name in vocabulary
        if name in mapped.columns or name in MINIMUM[ours]
    ]
    words = [f"{status} = {_strings(mapped.statuses.get(status, ()))}" for status in statuses]
    if mapped.undecided:
        words.append("# Decide these and move each into one of the lists above:")
        words.append(f"undecided = {_strings(mapped.undecided)}")
    timezone = (
        ['timezone = "UTC"'] if any("without time zone" in note for note in mapped.notes) else []
    )
    return [
        f"[{ours}]",
        *comments,
        f"schema = {_string(mapped.relation.schema)}",
        f"table = {_string(mapped.relation.name)}",
        *timezone,
        "",
        f"[{ours}.columns]",
        *columns,
        "",
        f"[{ours}.statuses]",
        *words,
        "",
    ]


def _string(text: str) -> str:
    # TOML's basic strings are JSON's, but for DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _strings(words: Sequence[str]) -> str:
    return f"[{', '.join(_string(word) for word in words)}]"


def _in_comment(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)
