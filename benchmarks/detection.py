"""How soon outages are noticed and how often quiet days raise a false alarm, in simulated histories."""

from __future__ import annotations

import random
import statistics

from benchmarks.figures import report
from benchmarks.simulated_days import (
    BATCHES,
    DAY_MINUTES,
    alarms,
    first_alarm,
    silent_producer,
    silent_worker,
    simulate,
    usual,
)
from runbook_lib.policy import Policy

RATES = (5, 20, 100)
TRIALS = 200
LENGTH_DAYS = 3
QUIET_YEARS = {5: 12, 20: 6, 100: 3}
# What goes wrong → failure share from then on (None: nothing finishes), jobs an hour → minutes allowed.
FAULTS: dict[str, tuple[float | None, dict[int, int]]] = {
    "all attempts fail": (1.0, {5: 60, 20: 40, 100: 30}),
    "nothing finishes": (None, {5: 60, 20: 40, 100: 30}),
    "50 % fail": (0.5, {20: 80}),
    "30 % fail": (0.3, {20: 200}),
}


def main() -> None:
    """Medians over onsets at any time of day; false alarms over years of days with 5 % failures."""
    for fault, (share, bars) in FAULTS.items():
        for jobs_per_hour, bar in bars.items():
            samples = minutes_to_alarm(jobs_per_hour, share, TRIALS)
            value = statistics.median(samples)
            report(
                f"{fault}, {jobs_per_hour} jobs/h: noticed after", value, "min (median)",
                bar=f"≤ {bar} min", met=value <= bar, samples=samples,
            )  # fmt: skip
    for jobs_per_hour, years in QUIET_YEARS.items():
        found = [false_alarms(jobs_per_hour, seed) for seed in range(years)]
        value = statistics.mean(len(year) for year in found)
        report(
            f"false alarms at 5 % failures, {jobs_per_hour} jobs/h", value, "in 365 days",
            bar="≤ 1", met=value <= 1, samples=found,
        )  # fmt: skip
    for name, batch in BATCHES.items():
        silence = silent_producer(batch)
        report(
            f"a producer of {name} exits 0 without output for 21 days: noticed after its time by",
            silence.first_alarm_hours, "h", bar="≤ 2 h, on each of 21 days, and no rate is given",
            met=silence.first_alarm_hours <= 2 and silence.days_with_alarm == 21 and silence.no_rate,
            samples=silence,
        )  # fmt: skip
    silence = silent_worker()
    report(
        "a worker exits 0 without output for 21 days: noticed after the first job by",
        silence.first_alarm_hours * 60, "min", bar="≤ 60 min, on each of 21 days, and no rate is given",
        met=silence.first_alarm_hours <= 1 and silence.days_with_alarm == 21 and silence.no_rate,
        samples=silence,
    )  # fmt: skip


def minutes_to_alarm(jobs_per_hour: int, share: float | None, trials: int) -> list[int]:
    """From the onset of a fault, at a random time of the second day, to the first alarm."""
    policy, known = Policy(), usual(jobs_per_hour)
    found = []
    for seed in range(trials):
        onset = DAY_MINUTES + random.Random(seed).randrange(DAY_MINUTES)
        attempts = simulate(
            jobs_per_hour, LENGTH_DAYS, seed, onset=onset,
            failure_share=share if share is not None else 0.0, stuck=share is None,
        )  # fmt: skip
        minutes = range(onset + 1, LENGTH_DAYS * DAY_MINUTES)
        alarm = first_alarm(attempts, minutes, known, policy.thresholds, policy.detection)
        found.append((alarm or LENGTH_DAYS * DAY_MINUTES) - onset)
    return found


def false_alarms(jobs_per_hour: int, seed: int) -> list[tuple[int, str]]:
    """The alarms of a year in which nothing is wrong."""
    policy = Policy()
    attempts = simulate(jobs_per_hour, 366, seed)
    return alarms(attempts, 366, usual(jobs_per_hour), policy.thresholds, policy.detection)


if __name__ == "__main__":
    main()
