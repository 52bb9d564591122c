"""What is to be said of an incident, drafted from facts: an update, a hand-over, and the post-mortem.

A draft says only what was recorded. Where a person has to judge, it leaves a line to fill in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.health.alerts.messages import length, moment
from runbook_lib.incidents.facts import IncidentFacts
from runbook_lib.incidents.records import SEVERITIES

TO_FILL_IN = "_to be filled in_"
_NOTES_SHOWN = 5
_LONGEST_VALUE_CHARACTERS = 200
# What Markdown would take for its own, in texts that come from anywhere.
_MARKS = re.compile(r"([\\`*\[\]<>|#]|(?<!\w)_|_(?!\w))")


def stakeholder_update(facts: IncidentFacts, next_minutes: int = 30) -> str:
    """A few sentences for people who do not know the house: what is wrong, what is done, what comes next."""
    incident = facts.incident
    lines = [
        f"## {_text(incident.title)}",
        f"**{incident.severity}**: {SEVERITIES[incident.severity]}. {_state(facts)}",
        _felt(facts),
        _why(facts),
    ]
    if facts.changes:
        lines.append(f"Done so far: {_sentence(_named(facts.changes))}.")
    if note := _last_notes(facts, 1):
        lines.append(f"Last noted, {_clock(note[0]['at'])} by {_text(note[0]['actor'])}: {_text(note[0]['said'])}")  # fmt: skip
    if incident.status == "open":
        lines.append(f"Led by {_text(incident.lead)}. The next update comes in {next_minutes} minutes, or sooner when something changes.")  # fmt: skip
    elif incident.resolution:
        lines.append(f"How it ended: {_text(incident.resolution)}")
    lines.append(_as_of(facts))
    return _document(lines)


def hand_over(facts: IncidentFacts, to: str) -> str:
    """What the next lead must know: where it stands, what was tried, what was changed, what is open."""
    incident = facts.incident
    standing = [each for each in facts.alerts if each["resolved_at"] is None]
    under_way = [each for each in facts.cells if each["status"] == "started"]
    failed = [each for each in facts.cells if each["status"] in ("failed", "lost", "interrupted")]
    return _document(
        [
            f"# Hand-over of {incident.incident} to {_text(to)}",
            f"**{_text(incident.title)}** ({incident.severity}), led by {_text(incident.lead)} until now. {_state(facts)}",
            _felt(facts),
            _why(facts),
            "## Alerts that stand",
            _bullets((f"{_text(each['cause'])} since {_clock(each['since'])}: {_text(each['message'])}" for each in standing), "None."),
            "## What was looked at",
            _bullets((_finding(each) for each in facts.findings), "No notebook has come to a verdict yet."),
            "## What was changed",
            _bullets((_change(each) for each in facts.changes), "Nothing."),
            "## What is under way or did not work",
            _bullets((_cell(each) for each in [*under_way, *failed[-_NOTES_SHOWN:]]), "Nothing."),
            "## Notes",
            _bullets((f"{_clock(each['at'])} {_text(each['actor'])}: {_text(each['said'])}" for each in _last_notes(facts, _NOTES_SHOWN)), "None."),
            "## Next",
            f"1. `runbook incident join {incident.incident}` makes copies of your own.\n"
            f"2. What I would do next: {TO_FILL_IN}",
            _as_of(facts),
        ]
    )  # fmt: skip


def post_mortem(facts: IncidentFacts, public_url: str | None = None) -> str:
    """The draft of the post-mortem: figures, timeline, evidence and actions; what people must add is marked."""
    incident = facts.incident
    return _document(
        [
            f"# Post-mortem of {incident.incident}: {_text(incident.title)}",
            "Drafted from what was recorded. Nobody is blamed here; the questions are what made it possible, and what will make it less so.",
            _table(["fact", "value"], _summary(facts)),
            "## Impact",
            _impact(facts),
            "## What it failed of",
            _causes(facts),
            "## Timeline",
            "Times are UTC. A cell is one step of a notebook.",
            _table(["at", "who", "what", "how it went", "said"], [_line(each) for each in facts.timeline]),
            "## Evidence",
            _evidence(facts, public_url),
            "## Actions, with before and after",
            _table(
                ["at", "who", "what", "outcome", "before", "after", "reason or error"],
                [_action(each) for each in facts.actions], "No action was recorded.",
            ),
            "## Alerts meanwhile",
            _table(
                ["since", "until", "severity", "cause", "said"],
                [(_clock(each["since"]), _clock(each["resolved_at"]), each["severity"], _text(each["cause"]), _text(each["message"])) for each in facts.alerts],
                "None.",
            ),
            "## What happened, in words", TO_FILL_IN,
            "## What made it possible", TO_FILL_IN,
            "## What went well, and what did not", TO_FILL_IN,
            "## What will be done",
            _table(["what", "who", "until"], [(TO_FILL_IN, "", "")]),
            _as_of(facts),
        ]
    )  # fmt: skip


def _state(facts: IncidentFacts) -> str:
    incident = facts.incident
    lasted = length(incident.until - incident.began_at)
    if incident.status == "closed":
        return (
            f"It lasted {lasted}, from {moment(incident.began_at)} to {_clock(incident.closed_at)}."
        )
    return f"It goes on since {moment(incident.began_at)}, for {lasted}."


def _felt(facts: IncidentFacts) -> str:
    """The figures that are not nothing, as a sentence."""
    if facts.impact is None:
        return "What it did could not be counted yet."
    known = [each for each in facts.impact.lines if each.value]
    unknown = [each.name for each in facts.impact.lines if each.value is None]
    said = _sentence(f"{each.name} {_figure(each.value, each.unit)}" for each in known)
    missing = f" Not known: {_sentence(unknown)}." if unknown else ""
    return f"Counted so far: {said or 'nothing failed, was late or went out wrong'}.{missing}"


def _why(facts: IncidentFacts) -> str:
    causes = facts.impact.causes if facts.impact else ()
    if not causes:
        return "No attempt has failed in this time." if facts.problem is None else ""
    first = causes[0]
    return f"Most attempts failed of {_text(first['error_class'])} ({first['attempts']:,} attempts of {first['jobs']:,} jobs)."


def _as_of(facts: IncidentFacts) -> str:
    late = f" The database is away: {_text(facts.problem)}" if facts.problem else ""
    return f"As of {moment(facts.at)}.{late}"


def _summary(facts: IncidentFacts) -> list[tuple[str, str]]:
    incident = facts.incident
    found = [
        ("severity", f"{incident.severity}: {SEVERITIES[incident.severity]}"),
        ("began", moment(incident.began_at)),
        ("opened", f"{moment(incident.opened_at)} by {_text(incident.opened_by)}"),
        ("closed", f"{moment(incident.closed_at)} by {_text(incident.closed_by)}" if incident.closed_at else ""),
        ("lasted", length(incident.until - incident.began_at)),
        ("from its beginning until somebody worked on it", length(incident.opened_at - incident.began_at)),
        ("lead", _text(incident.lead)),
        ("responders", _text(", ".join(facts.responders))),
        ("alert", _text(incident.cause)),
        ("resolution", _text(incident.resolution)),
        ("cells executed", f"{len(facts.cells)}, in {len(facts.notebooks)} notebook{'' if len(facts.notebooks) == 1 else 's'}"),
    ]  # fmt: skip
    return [(name, text) for name, text in found if text]


def _impact(facts: IncidentFacts) -> str:
    if facts.impact is None:
        return "It could not be counted."
    rows = [(each.name, "not known" if each.value is None else _figure(each.value, each.unit), _text(each.why))
            for each in facts.impact.lines]  # fmt: skip
    return _table(["what", "how much", "counted"], rows)


def _causes(facts: IncidentFacts) -> str:
    causes = facts.impact.causes if facts.impact else ()
    rows = [(_text(each["error_class"]), _text(each["provider"]), f"{each['attempts']:,}", f"{each['jobs']:,}",
             _clock(each["first_at"]), _clock(each["last_at"])) for each in causes]  # fmt: skip
    return _table(["class", "provider", "attempts", "jobs", "first", "last"], rows, "No attempt failed.")  # fmt: skip


def _evidence(facts: IncidentFacts, public_url: str | None) -> str:
    rows = []
    for run in facts.runs:
        shown = f"`runbook archive open {run['run_id']}`"
        if public_url:
            shown = (
                f"[{run['run_id'][:13]}]({public_url.rstrip('/')}/runs/{run['run_id']}), {shown}"
            )
        rows.append((_text(run["procedure"]), _text(run["actor"]), run["status"], _words(run["verdict"]), shown))  # fmt: skip
    return _table(["notebook", "who", "ran", "verdict", "where"], rows, "Nothing was run.")


def _line(entry: dict[str, Any]) -> tuple[str, ...]:
    if entry["kind"] != "cell":
        return (_clock(entry["at"]), _text(entry["actor"]), _words(entry["kind"]), "", _text(entry["said"]))  # fmt: skip
    went = [_words(entry["status"]), _words(entry["verdict"]), entry["error"] or ""]
    if entry["seconds"] is not None:
        went.append(f"{entry['seconds']:.1f} s")
    went += ["filed late"] if entry["filed_late"] else []
    return (_clock(entry["at"]), _text(entry["actor"]), _place(entry), _text(", ".join(filter(None, went))),
            _text(entry["said"]))  # fmt: skip


def _action(action: dict[str, Any]) -> tuple[str, ...]:
    what = " ".join(filter(None, [action["action"], action["target"]]))
    return (
        _clock(action["acted_at"]), _text(action["actor"]), _text(what), action["outcome"],
        _value(action["before"]), _value(action["after"]), _text(action["error"] or action["reason"]),
    )  # fmt: skip


def _change(action: dict[str, Any]) -> str:
    undo = f" Taken back by `runbook changes undo {action['change_id']}`." if action["change_id"] and action["outcome"] == "done" else ""  # fmt: skip
    reason = f": {_text(action['reason'])}" if action["reason"] else ""
    return f"{_clock(action['acted_at'])} {_text(action['actor'])}: {_text(action['action'])} {_text(action['target'])} ({action['outcome']}){reason}.{undo}"  # fmt: skip


def _finding(cell: dict[str, Any]) -> str:
    said = f": {_text(cell['said'])}" if cell["said"] else "."
    return f"{_clock(cell['at'])} {_text(cell['notebook'])} by {_text(cell['actor'])} found **{_words(cell['verdict'])}**{said}"


def _cell(cell: dict[str, Any]) -> str:
    error = f" ({_text(cell['error'])})" if cell["error"] else ""
    return f"{_clock(cell['at'])} {_place(cell)} by {_text(cell['actor'])}: {_words(cell['status'])}{error}."


def _place(cell: dict[str, Any]) -> str:
    number = f"cell {cell['cell_number']} of {cell['cell_count']}" if cell["cell_number"] else "a cell"  # fmt: skip
    title = f", {cell['cell_title']}" if cell["cell_title"] else ""
    return _text(f"{cell['notebook'] or 'a notebook'}: {number}{title}")


def _last_notes(facts: IncidentFacts, count: int) -> list[dict[str, Any]]:
    return [each for each in facts.entries if each["kind"] == "note"][-count:]


def _named(actions: Sequence[dict[str, Any]]) -> list[str]:
    done = [each for each in actions if each["outcome"] == "done"]
    return list(dict.fromkeys(_text(each["action"].replace("_", " ")) for each in done)) or [
        "nothing that succeeded"
    ]


def _figure(value: float | None, unit: str) -> str:
    return f"{value:,.2f} {unit}" if unit == "USD" else f"{value:,}"


def _clock(at: datetime | None) -> str:
    return "–" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def _words(value: Any) -> str:
    return "" if value is None else str(value).replace("_", " ")


def _value(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return _text(one_line(text, _LONGEST_VALUE_CHARACTERS))


def _text(value: Any) -> str:
    """A text from anywhere as Markdown shows it: masked, on one line, with nothing that acts."""
    return "" if value is None else _MARKS.sub(r"\\\1", one_line(str(value), 1_000))


def _sentence(parts: Iterable[str]) -> str:
    return ", ".join(parts)


def _bullets(lines: Iterable[str], empty: str) -> str:
    return "\n".join(f"- {line}" for line in lines) or empty


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], empty: str = "None.") -> str:
    if not rows:
        return empty
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _document(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
