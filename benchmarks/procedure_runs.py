"""Every procedure through the runner, one after another, with its defaults on a month of history."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from benchmarks.figures import report
from benchmarks.scratch import server
from runbook_lib.procedures import catalogue
from runbook_lib.procedures.runner import run
from runbook_lib.settings import PROJECT_DIRECTORY, Settings

ROUNDS = 3
BAR_SECONDS = 1.5


def main() -> None:
    """The first round is not counted: it starts what the others find running."""
    sys.path.insert(0, str(PROJECT_DIRECTORY / "tests"))
    from month import seed_month

    with server() as running:
        database = running.new_database()
        seed_month(database)
        settings = Settings(database_url=database.url, runbook_home=Path(running.home) / "home")  # type: ignore[arg-type]
        seconds: dict[str, list[float]] = {}
        for number in range(ROUNDS + 1):
            for name in catalogue.names(settings):
                began = time.perf_counter()
                record = run(name, actor="benchmark", database=database, settings=settings)
                assert record.status == "succeeded", (name, record.error)
                if number:
                    seconds.setdefault(name, []).append(time.perf_counter() - began)
        medians = {name: statistics.median(each) for name, each in seconds.items()}
        for name, median in sorted(medians.items(), key=lambda each: -each[1]):
            report(name, median, "s (median)", bar=f"≤ {BAR_SECONDS} s", met=median <= BAR_SECONDS, samples=seconds[name])  # fmt: skip
        slow = [name for name, median in medians.items() if median > BAR_SECONDS]
        report(f"procedures slower than that, of {len(medians)}", len(slow), "", bar="0", met=not slow)  # fmt: skip
        report("the whole set, at the median", statistics.median(medians.values()), "s")


if __name__ == "__main__":
    main()
