"""What a check answers: a verdict with its figure, where it came from, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from runbook_lib.credentials.masking import one_line

Verdict = Literal["ok", "warning", "critical", "not_allowed", "not_enough_data"]
_ORDER: tuple[Verdict, ...] = ("ok", "warning", "critical")


@dataclass(frozen=True)
class Check:
    """One check's answer.

    `name` is `part.step`. `message` says it in a sentence. `source` names the statement or probe that
    the value came from. `does_not_prove` says what remains open, `next` what to do.
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

    @property
    def part(self) -> str:
        return self.name.split(".")[0]

    @property
    def answered(self) -> bool:
        return self.verdict in _ORDER

    def masked(self) -> dict[str, Any]:
        """As a dictionary for output, without secrets and control characters."""
        return {
            name: one_line(value, limit=1000) if isinstance(value, str) else value
            for name, value in asdict(self).items()
        }


def worst_verdict(checks: Iterable[Check]) -> Verdict:
    """ok < warning < critical; the other two never raise it. Nothing answered: not_enough_data."""
    answered = [_ORDER.index(check.verdict) for check in checks if check.answered]
    return _ORDER[max(answered)] if answered else "not_enough_data"
