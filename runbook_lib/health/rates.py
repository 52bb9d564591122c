"""Rates of failure: their bounds, and when a rate is ok, a warning or critical."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runbook_lib.health.checks import Check, Verdict

# The written runbook: a warning above 10 % failures, critical above 20 %; success should exceed 80 %.
WARNING_PERCENT = 10.0
CRITICAL_PERCENT = 20.0
# Fewer attempts than this prove nothing; from this many on, the rate itself is compared.
FEWEST_ATTEMPTS = 5
ENOUGH_ATTEMPTS = 20
_Z_95 = 1.959964


@dataclass(frozen=True)
class Rate:
    """`part` of `whole`, in percent, with the interval that holds the true rate 95 times in 100.

    All None when `whole` is 0: no data is not 0 % and not 100 %.
    """

    part: int
    whole: int
    percent: float | None
    low_percent: float | None
    high_percent: float | None


def rate(part: int, whole: int) -> Rate:
    """A rate with its Wilson interval.

    Source: E. B. Wilson, "Probable Inference", 1927. It stays within 0 and 100 % and holds for small
    samples, where the usual ± does not.
    """
    if whole == 0:
        return Rate(0, 0, None, None, None)
    share, square = part / whole, _Z_95**2
    middle = (share + square / (2 * whole)) / (1 + square / whole)
    half = (
        _Z_95
        * math.sqrt(share * (1 - share) / whole + square / (4 * whole**2))
        / (1 + square / whole)
    )
    low = 0.0 if part == 0 else 100 * (middle - half)
    high = 100.0 if part == whole else 100 * (middle + half)
    return Rate(part, whole, 100 * share, low, high)


def failure_check(name: str, failures: Rate, *, what: str, source: str) -> Check:
    """The verdict on a rate of failures by the written runbook's thresholds.

    With few attempts the interval decides: only when it lies on one side of a threshold is there a
    verdict, else `not_enough_data`. `what` is what was counted, such as "attempts from … to …".
    """
    verdict = _verdict(failures)
    return Check(
        name, verdict, _message(failures, verdict, what),
        value=None if failures.percent is None else round(failures.percent, 1),
        unit="percent", threshold=CRITICAL_PERCENT, source=source,
        does_not_prove="that the articles are good, or that no job waits",
        next=_NEXT.get(verdict),
    )  # fmt: skip


_NEXT = {
    "warning": "Look at the failures by class; `runbook doctor` says whether a provider or the database is at fault.",
    "critical": "Act on the most frequent class below; `runbook pause` stops a provider while you do. Then escalate to level 2.",
    "not_enough_data": "Look whether jobs came in at all: `runbook jobs list`.",
}


def _verdict(failures: Rate) -> Verdict:
    if failures.percent is None or failures.whole < FEWEST_ATTEMPTS:
        return "not_enough_data"
    assert failures.low_percent is not None
    assert failures.high_percent is not None
    if failures.whole < ENOUGH_ATTEMPTS:
        sure = failures.low_percent > CRITICAL_PERCENT or failures.high_percent <= CRITICAL_PERCENT
        if not sure:
            return "not_enough_data"
    if failures.percent > CRITICAL_PERCENT:
        return "critical"
    return "warning" if failures.percent > WARNING_PERCENT else "ok"


def _message(failures: Rate, verdict: Verdict, what: str) -> str:
    if failures.percent is None:
        return f"There are no {what}, so there is no rate. No data is not 100 % success."
    counted = (
        f"{failures.part} of {failures.whole} {what} failed: {failures.percent:.1f} % "
        f"(with 95 % certainty between {failures.low_percent:.1f} and {failures.high_percent:.1f} %)."
    )
    if verdict == "not_enough_data":
        return f"{counted} Too few to tell from {CRITICAL_PERCENT:g} %."
    limits = f"A warning is above {WARNING_PERCENT:g} %, critical above {CRITICAL_PERCENT:g} %."
    return f"{counted} {limits}"
