"""Durations on a logarithmic scale: counts that add up exactly, and percentiles with a known error.

The scale is the one of `sql/rollup.sql: summarise`: bucket b holds what is longer than 1 ms × 1.1^(b-1)
and not longer than 1 ms × 1.1^b; bucket 0 holds everything up to 1 ms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

GROWTH = 1.1
SMALLEST_SECONDS = 0.001
# A percentile from the scale is within this of the attempt that it stands for (nearest rank).
LARGEST_ERROR_PERCENT = 100 * (GROWTH - 1) / (GROWTH + 1)


def bucket_of(seconds: float) -> int:
    """The bucket that holds a duration."""
    if seconds <= SMALLEST_SECONDS:
        return 0
    return math.ceil(math.log(seconds / SMALLEST_SECONDS) / math.log(GROWTH))


def percentile_seconds(buckets: Sequence[int], counts: Sequence[int], percent: float) -> float:
    """The duration that at least `percent` of the attempts do not exceed, at the scale's precision."""
    rank = max(1, math.ceil(sum(counts) * percent / 100))
    passed = 0
    for bucket, count in zip(buckets, counts, strict=True):
        passed += count
        if passed >= rank:
            return seconds_of(bucket)
    raise ValueError("no percentile of no attempts")


def seconds_of(bucket: int) -> float:
    """What stands for a bucket: as far from its lower bound as from its upper one, in percent."""
    if bucket <= 0:
        return SMALLEST_SECONDS
    return SMALLEST_SECONDS * 2 * GROWTH**bucket / (GROWTH + 1)
