"""What a notebook calls at its end: its results and verdict, as data that the runner reads."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import RunbookError
from runbook_lib.policy import load_policy
from runbook_lib.settings import load_settings

CONCLUSION = "application/vnd.runbook.conclusion+json"
VERDICTS = ("ok", "warning", "critical", "not_enough_data")
# Only then is it shown whom to ask.
_NOT_WELL = ("warning", "critical")
# Told of each conclusion: the recorder of cells that are executed by hand.
LISTENERS: list[Callable[[dict[str, Any]], None]] = []


def conclude(
    results: Mapping[str, Any] | None = None, verdict: Any = None, summary: str | None = None
) -> None:
    """Records results and verdict as the notebook's output. Never raises.

    `verdict` is one of ok, warning, critical, not_enough_data, or anything with a `verdict` and a
    `message`, such as a check. `summary` is the answer in a sentence.
    """
    try:
        conclusion = _conclusion(results, verdict, summary)
        for listener in LISTENERS:
            listener(conclusion)
        _show(conclusion)
    except Exception as error:
        print(f"conclude() could not record the results: {type(error).__name__}: {error}")


def _conclusion(results: Any, verdict: Any, summary: str | None) -> dict[str, Any]:
    said = getattr(verdict, "verdict", verdict)
    problems = []
    if said is not None and said not in VERDICTS:
        problems.append(f"{said!r} is not a verdict; verdicts are {', '.join(VERDICTS)}")
        said = None
    if results is not None and not isinstance(results, Mapping):
        problems.append(f"results must be a mapping, not {type(results).__name__}")
        results = None
    return {
        "verdict": said,
        "summary": str(summary or getattr(verdict, "message", "")),
        "results": {str(name): _plain(value) for name, value in (results or {}).items()},
        "problems": problems,
    }


def _show(conclusion: dict[str, Any]) -> None:
    words = _words(conclusion)
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        print(words)
        return
    if get_ipython() is None:
        print(words)
        return
    bundle = {CONCLUSION: conclusion, "text/html": _page(conclusion), "text/plain": words}
    display(bundle, raw=True)


def _words(conclusion: dict[str, Any]) -> str:
    said = conclusion["verdict"] or "no verdict"
    lines = [
        f"Recorded: {said.replace('_', ' ')}. {len(conclusion['results'])} results.",
        *conclusion["problems"],
        *(_whom_to_ask() if conclusion["verdict"] in _NOT_WELL else ()),
    ]
    return "\n".join(lines)


def _whom_to_ask() -> list[str]:
    """The escalation levels with their contacts, and where vendors are reached: the policy's."""
    try:
        policy = load_policy(load_settings())
    except RunbookError as error:
        return [f"Whom to ask is not known: {one_line(str(error), 300)}"]
    levels = [
        f"Level {number}, {level.title}: {', '.join(level.contacts) or 'no contact is set (RUNBOOK_CONFIG, levels)'}"
        for number, level in sorted(policy.levels.items())
    ]
    vendors = ", ".join(f"{name} {vendor.support_url}" for name, vendor in policy.vendors.items())
    return [*levels, f"Vendors: {vendors}"]


def _page(conclusion: dict[str, Any]) -> str:
    lines = "<br>".join(html.escape(line) for line in _words(conclusion).split("\n"))
    return f'<p class="muted">{lines}</p>'


def _plain(value: Any) -> Any:
    """A value as JSON takes it; not-a-number and not-a-time become None."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return float(value) if value.is_finite() else None
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    # numpy's and pandas' own kinds, without importing either
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return [_plain(row) for row in value.to_dict("records")]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return _plain(value.item())
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return str(value)
