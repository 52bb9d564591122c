"""How often triage names the cause of faults that are staged for real, abstains honestly, and does no harm.

    make rehearsals                            everything: five seeds of each fault, controls, healthy scenes …
    make rehearsals SEEDS=1                    one seed of each, for a quick look
    make rehearsals ONLY=quota,healthy         some of it: by kind, fault or cause
    make rehearsals PAGE=1                     only the table and the page, of what was run before
    make rehearsals JUDGE=1                    stages nothing: the kept evidence is judged by the rules of today

Results are appended to `benchmarks/results/rehearsals.jsonl`; scenes that are there already are left out, so
that a run can be stopped and gone on with. `ANEW=1` begins anew. `PARALLEL=` laboratories work at once (2):
a scene mostly waits. What triage saw is kept in `benchmarks/results/evidence`. At the end stand the table, each miss, and a page: `benchmarks/results/rehearsals.html`.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.rehearsals_page import write_page
from benchmarks.rehearsals_table import answered, measures, misses
from runbook_lib.policy import Policy
from runbook_lib.rehearsal import trials
from runbook_lib.rehearsal.broken_states import BLACK_HOLES, BROKEN
from runbook_lib.rehearsal.catalogue import (
    BY_NAME,
    CATALOGUE,
    COMPOUNDS,
    HEALTHY,
    NOT_STAGED,
    UNKNOWN,
)
from runbook_lib.rehearsal.faults import Fault
from runbook_lib.rehearsal.held_out_faults import HELD_OUT
from runbook_lib.rehearsal.laboratory import Laboratory, laboratory
from runbook_lib.rehearsal.trials import Truth
from runbook_lib.triage import kept_evidence
from runbook_lib.triage.diagnosis import assess

RESULTS = figures.RESULTS / "rehearsals.jsonl"
EVIDENCE = figures.RESULTS / "evidence"
PAGE = figures.RESULTS / "rehearsals.html"
SEEDS, PARALLEL = 5, 2
# Faults of which a part, or a milder form, must be told as well, with how hard they strike.
PARTIAL = (("rate-limit", 0.6), ("overloaded", 0.6), ("category", 0.6))  # fmt: skip
# Of these fewer seeds are enough for their bars: half an hour is to be enough for all of it.
MOST_SEEDS = {
    "compound": 3,
    "unknown": 3,
    "partial": 3,
    "healthy": 4,
    "black-hole": 3,
    "control": 1,
    "broken": 1,
}
FURTHER_SEEDS = 2
FIRST_OF_CAUSE = list({fault.truth: fault.name for fault in reversed(CATALOGUE)}.values())


@dataclass(frozen=True, order=True)
class Task:
    """One scene: its kind, its name within the kind, and its seed."""

    kind: str
    name: str
    seed: int

    @property
    def evidence(self) -> Path:
        return EVIDENCE / f"{self.kind} {self.name} {self.seed}.json"


def main() -> None:
    """Runs what has not been run yet, then prints the table and writes the page."""
    if os.environ.get("JUDGE"):
        judge_kept()
        return
    if os.environ.get("ANEW"):
        RESULTS.unlink(missing_ok=True)
        shutil.rmtree(EVIDENCE, ignore_errors=True)
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    if not os.environ.get("PAGE"):
        run(left_to_do())
    found = newest_rows()
    for measure in measures(found):
        figures.report(measure.name, measure.value, measure.unit, bar=measure.bar, met=measure.met, samples=measure.misses)  # fmt: skip
    for line in misses(found):
        print(f"  {line}")
    for cause, reason in NOT_STAGED.items():
        print(f"  not staged here: {cause}: {reason}")
    write_page(PAGE, found, NOT_STAGED)
    print(f"The page: {PAGE}")


def tasks() -> Iterator[Task]:
    """Every scene of the set, as far as `ONLY` and `SEEDS` go; the first seed of everything comes first."""
    only = {name for name in os.environ.get("ONLY", "").split(",") if name}
    partial = [f"{name}@{severity}" for name, severity in PARTIAL if name in BY_NAME]
    kinds: dict[str, list[str]] = {
        "catalogue": [fault.name for fault in CATALOGUE],
        "compound": [fault.name for fault in COMPOUNDS],
        "held-out": [fault.name for fault, _ in HELD_OUT],
        "unknown": list(UNKNOWN),
        "partial": partial,
        "healthy": list(HEALTHY),
        "black-hole": list(BLACK_HOLES),
        "broken": list(BROKEN),
        "control": FIRST_OF_CAUSE,
    }
    for seed in range(int(os.environ.get("SEEDS") or SEEDS)):
        for kind, names in kinds.items():
            for name in names:
                if seed >= most_seeds(kind, name):
                    continue
                causes = BY_NAME[name].truth if name in BY_NAME else ()
                if not only or only & {kind, name, name.partition("@")[0], *causes}:
                    yield Task(kind, name, seed)


def most_seeds(kind: str, name: str) -> int:
    """How many seeds of a scene are run at most; of further ways to the same cause fewer are enough."""
    if kind == "catalogue" and name not in FIRST_OF_CAUSE:
        return FURTHER_SEEDS
    return MOST_SEEDS.get(kind, sys.maxsize)


def left_to_do() -> list[Task]:
    done = {
        (row["kind"], row["name"], row["seed"]) for row in newest_rows() if row["right"] is not None
    }
    return [task for task in tasks() if (task.kind, task.name, task.seed) not in done]


def perform(laboratory_: Laboratory, task: Task, *, keeps_evidence: bool = True) -> dict[str, Any]:
    """Runs one scene, and keeps what triage saw in it."""
    name, seed = task.name, task.seed
    evidence = task.evidence if keeps_evidence else None
    if task.kind == "healthy":
        return trials.try_healthy(laboratory_, HEALTHY[name], seed, evidence=evidence)
    if task.kind in ("black-hole", "broken"):
        return trials.try_state(laboratory_, {**BLACK_HOLES, **BROKEN}[name], seed)
    if task.kind == "control":
        return trials.try_controls(laboratory_, BY_NAME[name], seed)
    if task.kind == "partial":
        name, _, severity = name.partition("@")
        fault = BY_NAME[name]
        return trials.try_fault(laboratory_, fault, seed, Truth(fault.truth), severity=float(severity), evidence=evidence)  # fmt: skip
    return trials.try_fault(laboratory_, _fault(task), seed, _truth(task), evidence=evidence)


def _fault(task: Task) -> Fault:
    name = task.name.partition("@")[0]
    held_out = {fault.name: fault for fault, _ in HELD_OUT}
    return {**BY_NAME, **held_out, **{name: fault for name, (fault, _) in UNKNOWN.items()}}[name]


def _truth(task: Task) -> Truth:
    """What is right of a scene that has a fault."""
    layers = {**{fault.name: layers for fault, layers in HELD_OUT}, **{name: layers for name, (_, layers) in UNKNOWN.items()}}  # fmt: skip
    return Truth(_fault(task).truth, layers.get(task.name, ()))


# the rules of today on what was seen before


def judge_kept() -> None:
    """Judges every kept evidence anew, in seconds: which answers are right now, and which differ."""
    before = {(row["kind"], row["name"], row["seed"]): row for row in newest_rows()}
    counted = {True: 0, False: 0}
    for key, row in sorted(before.items()):
        task = Task(*key)
        # A maintenance window stands in the policy of the scene, not in its evidence.
        if not task.evidence.exists() or task.name == "planned-maintenance":
            continue
        _, evidence = kept_evidence.read(task.evidence)
        found = trials.told(assess(evidence, Policy()))
        judged = trials.is_no_alarm(found) if task.kind == "healthy" else trials.judge_fault(_truth(task), found)["right"]  # fmt: skip
        counted[judged] += 1
        answer = answered({**row, **found.row()})
        if not judged or judged != row["right"]:
            print(f"{'now right' if judged else 'WRONG' if not row['right'] else 'NOW WRONG'}  {task.kind:10} {task.name:28} seed {task.seed}: {answer}")  # fmt: skip
    print(f"{counted[True]} right, {counted[False]} wrong")


# several laboratories at once


def run(tasks_: list[Task]) -> None:
    """Shares the scenes out among laboratories, each a process of its own, and keeps what they find."""
    if not tasks_:
        return
    processes = min(int(os.environ.get("PARALLEL") or PARALLEL), len(tasks_))
    context = multiprocessing.get_context("spawn")
    waiting, answers = context.Queue(), context.Queue()
    for task in [*tasks_, *[None] * processes]:
        waiting.put(task)
    began, right = time.monotonic(), 0
    workers = [
        context.Process(target=_work, args=(waiting, answers), name=f"laboratory {number}")
        for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        for number in range(1, len(tasks_) + 1):
            row = _next(answers, workers)
            if row is None:
                break
            keep(row)
            right += bool(row["right"])
            left = (time.monotonic() - began) / number * (len(tasks_) - number)
            print(f"{number:4} of {len(tasks_)}, {right} right, {left / 60:4.1f} min left  {told(row)}", flush=True)  # fmt: skip
    finally:
        for worker in workers:
            worker.join(20)
            if worker.is_alive():
                worker.terminate()


def _next(answers: Any, workers: list[Any]) -> dict[str, Any] | None:
    """The next row; None when no laboratory is left that could bring one."""
    while True:
        try:
            row: dict[str, Any] = answers.get(timeout=1)
            return row
        except multiprocessing.queues.Empty:  # type: ignore[attr-defined]
            if not any(worker.is_alive() for worker in workers):
                return None


def _work(waiting: Any, answers: Any) -> None:
    """One laboratory: takes a scene after the other until there is none."""
    logging.disable(logging.CRITICAL)
    with laboratory() as laboratory_:
        while (task := waiting.get()) is not None:
            try:
                row = perform(laboratory_, task)
            except Exception as error:  # one scene that breaks must not end the others
                row = {"right": None, "problem": f"{type(error).__name__}: {error}", "truth": []}
            answers.put({"kind": task.kind, "name": task.name, "seed": task.seed, **row})


def told(row: dict[str, Any]) -> str:
    """One line about a scene."""
    name = f"{row['kind']:10} {row['name']:28} seed {row['seed']}"
    if row["right"] is None:
        return f"{name}  not staged: {row['problem']}"
    answer = answered(row)
    also = "".join(
        f"  {word}: {row[word]}" for word in ("problems", "action_problem", "harm") if row.get(word)
    )
    return f"{name}  {'right' if row['right'] else 'WRONG'}: {answer} ({row['seconds']} s){also}"


def keep(row: dict[str, Any]) -> None:
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, default=str) + "\n")


def newest_rows() -> list[dict[str, Any]]:
    """The newest row of each scene."""
    if not RESULTS.exists():
        return []
    read = [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()]
    return list({(row["kind"], row["name"], row["seed"]): row for row in read}.values())


if __name__ == "__main__":
    main()
