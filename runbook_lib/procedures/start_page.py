"""Which procedure to open: by what is seen, by the alert that came, or by an error's text.

Everything is read from the procedures themselves, a team's own among them: title, purpose, alert and what
their *Symptoms and impact* say. Error texts go through the error guide.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.errors import InsufficientPrivilege

from runbook_lib.credentials.masking import one_line
from runbook_lib.database.statements import load as statements
from runbook_lib.errors import RunbookError
from runbook_lib.health.alerts.messages import procedure_command
from runbook_lib.health.answers import Answer
from runbook_lib.health.checks import Check
from runbook_lib.health.tables import Table
from runbook_lib.pipeline.error_guide import SCENARIOS, UNKNOWN, Scenario, scenario_of_text
from runbook_lib.procedures import catalogue
from runbook_lib.settings import load_settings

if TYPE_CHECKING:
    import pandas

    from runbook_lib.procedures.workplace import Workplace

_SQL = statements("start_page")
TRIAGE, ITSELF = "emergency/system_down", "start/which_procedure"
MOST_ANSWERS, MOST_ALERTS = 5, 20
_SYMPTOMS = re.compile(r"## Symptoms and impact\s+(.*?)(?=\n## |\Z)", re.DOTALL)
_WORD = re.compile(r"[a-z]{3,}")
# Words are compared by their beginnings, so that "failing" finds "fails".
_STEM_CHARACTERS = 5
_EVERYWHERE = frozenset(re.findall(r"\w+", "the and that this with for not are was has have does from when what which nothing open run how did does last let may can who where our own its they them nobody"))  # fmt: skip
# A word in the title says more about a procedure than one in its prose.
_WEIGHT = {"title": 3.0, "alert": 3.0, "scenarios": 2.5, "purpose": 2.0, "symptoms": 1.0}


@dataclass(frozen=True)
class Entry:
    """A procedure as the start page knows it."""

    name: str
    title: str
    when: str
    level: int
    words: Mapping[str, float] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Way:
    """A procedure to open, and why."""

    procedure: str
    because: str
    first: str | None = None


@dataclass(frozen=True, repr=False)
class StartPage(Answer):
    """Which procedure to open. Shown in a notebook, it is the answer."""

    check: Check
    answers: tuple[Way, ...]
    entries: tuple[Entry, ...]
    alerts: tuple[Way, ...]
    problem: str | None = None

    @property
    def fitting(self) -> Table:
        """What fits what was asked, best first."""
        return Table(_frame(self.answers), empty="Nothing was asked, or nothing fits.")

    @property
    def open_alerts(self) -> Table:
        """What alerts that are open now name."""
        return Table(_frame(self.alerts), empty=self.problem or "No alert is open.")

    @property
    def everything(self) -> Table:
        """Every procedure, by chapter."""
        import pandas

        rows = [
            {"procedure": each.name, "title": each.title, "when": each.when, "level": each.level}
            for each in self.entries
        ]  # fmt: skip
        return Table(pandas.DataFrame(rows, columns=["procedure", "title", "when", "level"]))  # fmt: skip

    def results(self) -> dict[str, Any]:
        """The answers, for the record."""
        return {
            "procedures": [each.procedure for each in self.answers],
            "open_alerts": len(self.alerts),
            "known": len(self.entries),
            "problem": self.problem,
        }


def which_procedure(
    workplace: Workplace, *, symptom: str | None = None, alert: str | None = None,
    error_text: str | None = None,
) -> StartPage:  # fmt: skip
    """Which procedure to open for a symptom in words, an alert's cause, or an error's text.

    Never raises for what it finds: without a database only open alerts are missing.
    """
    try:
        entries = tuple(_entries())
    except RunbookError as error:
        words = one_line(str(error), 500)
        check = Check("start.procedure", "not_enough_data", f"The procedures cannot be read. {words}")  # fmt: skip
        return StartPage(check, (), (), (), words)
    known = {each.name for each in entries}
    alerts, problem = _open_alerts(workplace)
    answers = [
        *(_by_alert(workplace, alert, entries) if alert else ()),
        *(_by_error(error_text, known) if error_text else ()),
        *(_by_words(symptom, entries) if symptom else ()),
    ]
    asked = any((symptom, alert, error_text))
    return StartPage(_overall(asked, answers, alerts), tuple(answers), entries, alerts, problem)


def _entries() -> Iterable[Entry]:
    settings = load_settings()
    for name, path in catalogue.names(settings).items():
        try:
            procedure = catalogue.load(name, path)
        except RunbookError:
            continue  # `runbook procedures` names what is none
        card, symptoms = procedure.card, _symptoms(procedure.notebook)
        words = _words({"title": f"{card.title} {name.replace('/', ' ').replace('_', ' ')}", "alert": card.alert or "",
                        "scenarios": " ".join(each.title for each in SCENARIOS if each.procedure == name),
                        "purpose": card.purpose, "symptoms": symptoms})  # fmt: skip
        yield Entry(name, card.title, card.alert or card.purpose, card.level, words)


def _symptoms(notebook: Mapping[str, Any]) -> str:
    text = "\n\n".join(
        "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"
    )
    found = _SYMPTOMS.search(text)
    return found[1] if found else ""


def _words(texts: Mapping[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part, text in texts.items():
        for stem in set(_stems(text)):
            found[stem] = max(found.get(stem, 0.0), _WEIGHT[part])
    return found


def _stems(text: str) -> list[str]:
    return [
        word[:_STEM_CHARACTERS] for word in _WORD.findall(text.lower()) if word not in _EVERYWHERE
    ]


def _by_words(text: str, entries: tuple[Entry, ...]) -> list[Way]:
    """Procedures whose words fit, rare words first; the usual measure of rarity in a collection."""
    asked = dict.fromkeys(_stems(text))
    spread = Counter(stem for each in entries for stem in asked if stem in each.words)
    scored = []
    for each in entries:
        if each.name == ITSELF:
            continue
        shared = [stem for stem in asked if stem in each.words]
        score = sum(each.words[stem] * math.log(1 + len(entries) / spread[stem]) for stem in shared)
        if shared:
            scored.append((score, each))
    scored.sort(key=lambda pair: (-pair[0], pair[1].name))
    return [Way(each.name, f"{each.title}. {each.when}") for _, each in scored[:MOST_ANSWERS]]


def _by_error(text: str, known: set[str]) -> list[Way]:
    scenario = scenario_of_text(text)
    if scenario is UNKNOWN:
        return []
    return [_of_scenario(scenario, known)]


def _of_scenario(scenario: Scenario, known: set[str]) -> Way:
    procedure = scenario.procedure if scenario.procedure in known else TRIAGE
    return Way(procedure, f"{scenario.title}. {scenario.meaning}", scenario.first_action)


def _by_alert(workplace: Workplace, alert: str, entries: tuple[Entry, ...]) -> list[Way]:
    """What the newest alert of this cause named, else the procedures whose card names such an alert."""
    try:
        with workplace.database.transaction(read_only=True) as transaction:
            row = transaction.row(_SQL["alert_named"], cause=alert.strip())
    except (RunbookError, InsufficientPrivilege, psycopg2.Error):
        row = None
    if row is not None:
        return [_of_alert(row)]
    return _by_words(re.sub(r"[._]", " ", alert), entries)[:2]


def _open_alerts(workplace: Workplace) -> tuple[tuple[Way, ...], str | None]:
    try:
        with workplace.database.transaction(read_only=True) as transaction:
            rows = transaction.rows(_SQL["open_alerts"], row_count=MOST_ALERTS)
    except (RunbookError, InsufficientPrivilege, psycopg2.Error) as error:
        return (), f"Open alerts are not known: {one_line(str(error), 300)}"
    return tuple(_of_alert(row) for row in rows), None


def _of_alert(row: Any) -> Way:
    procedure = row.procedure or TRIAGE
    since = f" since {row.since:%Y-%m-%d %H:%M} UTC" if hasattr(row, "since") else ""
    severity = f"{row.severity}, level {row.level}" if hasattr(row, "severity") else "its alert"
    return Way(
        procedure, f"{row.cause}: {severity}{since}", procedure_command(procedure, row.parameters)
    )


def _overall(asked: bool, answers: list[Way], alerts: tuple[Way, ...]) -> Check:
    name = "start.procedure"
    if answers:
        first = answers[0]
        words = f"Open {first.procedure}: {first.because}"
        return Check(name, "ok", words, first.procedure, procedure=first.procedure, next=first.first)  # fmt: skip
    if asked:
        words = f"Nothing fits what was asked. Open {TRIAGE}: it asks every layer and says which one it is."
        return Check(name, "not_enough_data", words, procedure=TRIAGE)
    if alerts:
        words = f"{len(alerts)} alerts are open. Open {alerts[0].procedure}: {alerts[0].because}"
        return Check(name, "ok", words, alerts[0].procedure, procedure=alerts[0].procedure)
    words = f"Say a symptom, an alert or an error's text above. Something is wrong and nobody knows what: {TRIAGE}."
    return Check(name, "ok", words, TRIAGE, procedure=TRIAGE)


def _frame(answers: Iterable[Way]) -> pandas.DataFrame:
    import pandas

    rows = [{"open": each.procedure, "because": each.because, "first": each.first} for each in answers]  # fmt: skip
    return pandas.DataFrame(rows, columns=["open", "because", "first"])
