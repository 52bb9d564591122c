"""Probes side by side, each in a thread that is left behind when its time is over."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from runbook_lib.health.checks import Check

# What to say of a probe that hung (its name, what it answered, the deadline), and of one that failed.
GivenUp = Callable[[str, Sequence[Check], float], Check]
Failed = Callable[[str, Exception], Check]


def _hung(part: str, answered: Sequence[Check], deadline_seconds: float) -> Check:
    after = f"after {answered[-1].name}" if answered else "at its first step"
    return Check(
        f"{part}.deadline",
        "critical",
        f"This part hung {after} and was given up after {deadline_seconds:g} s.",
        deadline_seconds,
        "s",
        next="What comes after the last answered step takes connections and then stalls: look there.",
    )


def _unexpected(part: str, error: Exception) -> Check:
    return Check(
        f"{part}.unexpected",
        "not_enough_data",
        f"The examination itself failed here: {type(error).__name__}: {error}",
        next="Please report this; the other parts were examined.",
    )


def run_probes(
    probes: Mapping[str, Callable[[], Iterable[Check]]],
    deadline_seconds: float,
    *,
    given_up: GivenUp = _hung,
    failed: Failed = _unexpected,
) -> dict[str, list[Check]]:
    """Runs all probes at once; one that hangs or fails harms no other.

    Each name gets the checks that its probe answered, and one more for a probe that hung or failed.
    """
    answers: queue.SimpleQueue[tuple[str, Check | None]] = queue.SimpleQueue()
    for name, probe in probes.items():
        threading.Thread(
            target=_run, args=(name, probe, answers, failed), name=f"probe-{name}", daemon=True
        ).start()
    found: dict[str, list[Check]] = {name: [] for name in probes}
    running = set(probes)
    deadline = time.monotonic() + deadline_seconds
    while running:
        try:
            name, check = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        if check is None:
            running.discard(name)
        else:
            found[name].append(check)
    for name in running:
        found[name].append(given_up(name, found[name], deadline_seconds))
    return found


def _run(
    name: str,
    probe: Callable[[], Iterable[Check]],
    answers: queue.SimpleQueue[tuple[str, Check | None]],
    failed: Failed,
) -> None:
    try:
        for check in probe():
            answers.put((name, check))
    except Exception as error:  # whatever one does, the others are told about
        answers.put((name, failed(name, error)))
    finally:
        answers.put((name, None))
