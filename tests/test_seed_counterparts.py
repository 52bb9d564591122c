"""Every line of the written runbook has a counterpart, and each of them opens."""

from __future__ import annotations

import re
import shlex

import pytest
from notebook_files import notebook_at
from test_documentation import require_command

from runbook_lib.database.statements import load
from runbook_lib.functions import FUNCTIONS
from runbook_lib.health.survey import DECLARED
from runbook_lib.maintenance.checklists import checklists
from runbook_lib.pipeline.error_guide import SCENARIOS
from runbook_lib.policy import Policy
from runbook_lib.settings import PROJECT_DIRECTORY, Settings

PAGE = PROJECT_DIRECTORY / "docs" / "seed_counterparts.md"
# Lines of the written runbook by section: what it has is counted once, so that none can be dropped.
LINES = {
    "Emergency: system down": 9,
    "Emergency: high failure rate": 9,
    "Daily health checks": 6,
    "Weekly maintenance": 5,
    "Monthly maintenance": 7,
    "Troubleshooting: OpenAI": 9,
    "Troubleshooting: WordPress": 13,
    "Troubleshooting: database": 12,
    "Troubleshooting: jobs": 14,
    "Performance optimisation": 7,
    "Metrics, thresholds and monitoring queries": 10,
    "Security": 12,
    "Checklist: before a deployment": 6,
    "Checklist: after a deployment": 5,
    "Checklist: monthly review": 6,
    "Escalation": 15,
    "Contacts and footer": 9,
}
CHECKS = {name for declared in DECLARED for name in declared.names}


def rows() -> list[tuple[str, str, str]]:
    """Section, line and targets of each row."""
    found, section = [], ""
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif row := re.match(r"\| \d+ \| (.+?) \| (.+) \|$", line):
            found.append((section, row[1], row[2]))
    return found


def test_every_line_of_the_written_runbook_has_a_row_of_its_own() -> None:
    counted = dict.fromkeys(LINES, 0)
    for section, _, _ in rows():
        counted[section] += 1
    assert counted == LINES


@pytest.mark.parametrize("section", LINES)
def test_every_target_opens(section: str) -> None:
    for its, line, targets in rows():
        if its == section:
            for target in targets.split(" · "):
                for one in re.findall(r"\]\(([^)]+)\)|`([^`]+)`", target):
                    opens(*one, line)


def opens(link: str, span: str, line: str) -> None:
    """Fails unless a link's cell or page, or what a code span names, is there."""
    if link:
        path, _, cell = link.partition("#")
        file = (PAGE.parent / path).resolve()
        assert file.exists(), (line, link)
        if cell:
            assert cell in {each["id"] for each in notebook_at(file)["cells"]}, (line, link)
        return
    kind, _, name = span.partition(" ")
    if kind == "runbook":
        require_command(shlex.split(name))
    elif kind == "policy":
        assert _in_policy(name), (line, name)
    else:
        assert KINDS[kind](name), (line, span)


def _in_policy(name: str) -> bool:
    at: object = Policy()
    for part in name.split("."):
        if isinstance(at, dict):
            at = at.get(part)
        elif isinstance(at, tuple):
            at = at[int(part)] if int(part) < len(at) else None
        else:
            if part not in type(at).model_fields:  # type: ignore[attr-defined]
                return False
            at = getattr(at, part)
            if at is None:
                return True  # an entry that has no default
    return at is not None


KINDS = {
    "function": lambda name: name in FUNCTIONS,
    "check": lambda name: name in CHECKS,
    "sql": lambda name: name.partition(".")[2] in load(name.partition(".")[0]),
    "guide": lambda name: name in {scenario.id for scenario in SCENARIOS},
    "setting": lambda name: name.lower() in Settings.model_fields,
    "checklist": lambda name: (
        name.partition("/")[2] in {item.id for item in checklists()[name.partition("/")[0]].items}
    ),
}
