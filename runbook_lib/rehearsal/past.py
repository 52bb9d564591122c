"""A past of weeks: only then does a pipeline know what is usual at an hour, and whether a silence is one."""

from __future__ import annotations

from collections.abc import Sequence

from runbook_lib.database.statements import load
from runbook_lib.health.rollup import refresh
from runbook_lib.health.sources import Sources
from runbook_lib.rehearsal.scene import Scene

_SQL = load("rehearsal_past")
HOUR_SECONDS, WEEK_HOURS = 3600.0, 168.0
ROLLUP_SECONDS = 60.0


def weeks_of_work(
    scene: Scene,
    *,
    weeks: int = 4,
    jobs_an_hour: float = 8,
    silent_hours: float = 5,
    same_silence_hours_ago: Sequence[float] = (),
) -> None:
    """Weeks in which jobs came each hour, more by day than by night; then nothing, for so many hours up to now.

    They take the place of the past that the scene had.
    `same_silence_hours_ago` names silences like it that were there before: `(WEEK_HOURS,)` is one of last week.
    """
    gaps = [(ago + silent_hours + 1, ago - 1) for ago in same_silence_hours_ago]
    for name in ("forget_runs", "forget_jobs"):
        scene.execute(_SQL[name])
    scene.execute(
        _SQL["weeks_of_work"], weeks=weeks, jobs_an_hour=jobs_an_hour, silent_hours=silent_hours,
        gaps_from=[since * HOUR_SECONDS for since, _ in gaps],
        gaps_to=[until * HOUR_SECONDS for _, until in gaps],
    )  # fmt: skip
    scene.execute(_SQL["partitions_of_the_past"])
    scene.execute(_SQL["forget_partition_events"])
    # What counts the hours is kept up to date all the time; whoever looks is not to do weeks of it at once.
    refresh(Sources(scene.database, scene.database), deadline_seconds=ROLLUP_SECONDS)
