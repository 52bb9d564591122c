"""Rates of failure: their bounds, and when a rate is ok, a warning or critical."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runbook_lib.health.checks import Check, Verdict
from runbook_lib.policy import Thresholds

# Fewer attempts than this prove nothing; from this many on, the rate itself is compared.
FEWEST_ATTEMPTS = 5
ENOUGH_ATTEMPTS = 20
_Z_95 = 1.959964
# One-sided: what pages somebody has to be above its threshold 99 times in 100.
_Z_99_ONE_SIDED = 2.326348


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


def rate(part: int, whole: int, *, z: float = _Z_95) -> Rate:
    """A rate with its Wilson interval, of z standard deviations.

    Source: E. B. Wilson, "Probable Inference", 1927. It stays within 0 and 100 % and holds for small
    samples, where the usual ± does not.
    """
    if whole == 0:
        return Rate(0, 0, None, None, None)
    share, square = part / whole, z**2
    middle = (share + square / (2 * whole)) / (1 + square / whole)
    half = (
        z * math.sqrt(share * (1 - share) / whole + square / (4 * whole**2)) / (1 + square / whole)
    )
    low = 0.0 if part == 0 else 100 * (middle - half)
    high = 100.0 if part == whole else 100 * (middle + half)
    return Rate(part, whole, 100 * share, low, high)


def failure_check(
    name: str,
    failures: Rate,
    *,
    what: str,
    source: str,
    thresholds: Thresholds | None = None,
    certain: bool = False,
) -> Check:
    """The verdict on a rate of failures by the team's thresholds.

    In a report, which somebody reads who sees the figures, the rate is compared; with few attempts the
    interval decides: only when it lies on one side of a threshold is there a verdict, else
    `not_enough_data`. `certain` is for what wakes somebody: a threshold then counts as exceeded only
    where the lower bound is above it. `what` is what was counted, such as "attempts from … to …".
    """
    limits = thresholds or Thresholds()
    verdict = _certain_verdict(failures, limits) if certain else _verdict(failures, limits)
    return Check(
        name, verdict, _message(failures, verdict, what, limits),
        value=None if failures.percent is None else round(failures.percent, 1),
        unit="percent", threshold=limits.failure_rate_critical_percent, source=source,
        does_not_prove="that the articles are good, or that no job waits",
        next=_NEXT.get(verdict),
    )  # fmt: skip


_NEXT = {
    "warning": "Look at the failures by class; `runbook doctor` says whether a provider or the database is at fault.",
    "critical": "Act on the most frequent class below; `runbook pause` stops a provider while you do. Then escalate to level 2.",
    "not_enough_data": "Look whether jobs came in at all: `runbook jobs list`.",
}


def _verdict(failures: Rate, limits: Thresholds) -> Verdict:
    if failures.percent is None or failures.whole < FEWEST_ATTEMPTS:
        return "not_enough_data"
    assert failures.low_percent is not None
    assert failures.high_percent is not None
    critical = limits.failure_rate_critical_percent
    if failures.whole < ENOUGH_ATTEMPTS:
        sure = failures.low_percent > critical or failures.high_percent <= critical
        if not sure:
            return "not_enough_data"
    return _above(failures.percent, limits)


def _certain_verdict(failures: Rate, limits: Thresholds) -> Verdict:
    if failures.percent is None:
        return "not_enough_data"
    low = rate(failures.part, failures.whole, z=_Z_99_ONE_SIDED).low_percent
    verdict = _above(low or 0.0, limits)
    few = failures.whole < FEWEST_ATTEMPTS and verdict == "ok"
    return "not_enough_data" if few else verdict


def _above(percent: float, limits: Thresholds) -> Verdict:
    if percent > limits.failure_rate_critical_percent:
        return "critical"
    return "warning" if percent > limits.failure_rate_warning_percent else "ok"


def _message(failures: Rate, verdict: Verdict, what: str, limits: Thresholds) -> str:
    if failures.percent is None:
        return f"There are no {what}, so there is no rate. No data is not 100 % success."
    warning, critical = limits.failure_rate_warning_percent, limits.failure_rate_critical_percent
    counted = (
        f"{failures.part} of {failures.whole} {what} failed: {failures.percent:.1f} % "
        f"(with 95 % certainty between {failures.low_percent:.1f} and {failures.high_percent:.1f} %)."
    )
    if verdict == "not_enough_data":
        return f"{counted} Too few to tell from {critical:g} %."
    return f"{counted} A warning is above {warning:g} %, critical above {critical:g} %."
