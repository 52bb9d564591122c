"""What a check answers: a verdict with its figure, where it came from, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from runbook_lib.credentials.masking import one_line

Verdict = Literal["ok", "warning", "critical", "not_allowed", "not_enough_data"]
_ORDER: tuple[Verdict, ...] = ("ok", "warning", "critical")


@dataclass(frozen=True)
class Check:
    """One check's answer.

    `name` is `part.step`. `message` says it in a sentence. `source` names the statement or probe that
    the value came from. `does_not_prove` says what remains open, `next` what to do; `procedure` is the
    procedure to open for it, with its `parameters`. `details` are the figures behind the value.
    """

    name: str
    verdict: Verdict
    message: str
    value: Any = None
    unit: str | None = None
    threshold: Any = None
    source: str | None = None
    does_not_prove: str | None = None
    next: str | None = None
    procedure: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def part(self) -> str:
        return self.name.split(".")[0]

    @property
    def answered(self) -> bool:
        return self.verdict in _ORDER

    def masked(self) -> dict[str, Any]:
        """As a dictionary for output, without secrets and control characters."""
        return {each.name: _masked(getattr(self, each.name)) for each in fields(self)}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return one_line(value, limit=1000)
    if isinstance(value, Mapping):
        return {name: _masked(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(each) for each in value]
    return value


def worst_verdict(checks: Iterable[Check]) -> Verdict:
    """ok < warning < critical; the other two never raise it. Nothing answered: not_enough_data."""
    answered = [_ORDER.index(check.verdict) for check in checks if check.answered]
    return _ORDER[max(answered)] if answered else "not_enough_data"
