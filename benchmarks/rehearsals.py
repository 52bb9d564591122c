"""How often triage names the cause of faults that are staged for real, and whether it abstains honestly.

    make bench NAME=rehearsals                 every scene with one seed
    ONLY=quota,login SEEDS=5 make bench NAME=rehearsals

Results are appended to `benchmarks/results/rehearsals.jsonl`; scenes that are there already are left out, so
that a run can be stopped and gone on with. `ANEW=1` begins anew. Each miss is printed with what it was mistaken for.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from benchmarks import figures
from runbook_lib.errors import RunbookError
from runbook_lib.health.context import open_context
from runbook_lib.rehearsal.catalogue import CATALOGUE, COMPOUNDS, HEALTHY, NOT_STAGED, UNKNOWN
from runbook_lib.rehearsal.faults import Fault
from runbook_lib.rehearsal.laboratory import Laboratory, laboratory
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.triage.diagnosis import Diagnosis, diagnose_context

RESULTS = figures.RESULTS / "rehearsals.jsonl"
STAGING_SECONDS = 40.0
# A fault that triage is to see is given a moment to spread, as an engineer would not look at once.
SETTLE_SECONDS = 1.0
BARS = {"catalogue": 95.0, "compound": 75.0, "healthy": 100.0, "unknown": 90.0}


def main() -> None:
    """Runs what has not been run yet, then prints the table."""
    if os.environ.get("ANEW"):
        RESULTS.unlink(missing_ok=True)
    with laboratory() as laboratory_:
        for kind, name, seed, run in scenes(laboratory_):
            if (kind, name, seed) in done():
                continue
            row = {"kind": kind, "name": name, "seed": seed, **run()}
            keep(row)
            told = (
                "right"
                if row["right"]
                else f"WRONG: {row['found'] or row['verdict']}, layer {row['layer']}"
            )
            print(f"{kind:10} {name:24} seed {seed}  {told}  ({row['seconds']} s)", flush=True)
    table()


Run = Callable[[], dict[str, Any]]


def scenes(laboratory_: Laboratory) -> Iterator[tuple[str, str, int, Run]]:
    """Every scene of the set, as far as `ONLY` and `SEEDS` go."""
    only = {name for name in os.environ.get("ONLY", "").split(",") if name}
    for seed in range(int(os.environ.get("SEEDS", "1"))):
        for kind, faults in (("catalogue", CATALOGUE), ("compound", COMPOUNDS)):
            for fault in faults:
                if not only or only & {fault.name, kind, *fault.truth}:
                    yield (
                        kind,
                        fault.name,
                        seed,
                        lambda fault=fault, seed=seed: staged(
                            laboratory_, fault, seed, fault.truth
                        ),
                    )  # type: ignore[misc]
        for name, (fault, layers) in UNKNOWN.items():
            if not only or only & {name, "unknown"}:
                yield (
                    "unknown",
                    name,
                    seed,
                    lambda fault=fault, seed=seed, layers=layers: staged(
                        laboratory_, fault, seed, (), layers
                    ),
                )  # type: ignore[misc]
        for name, arrange in HEALTHY.items():
            if not only or only & {name, "healthy"}:
                yield (
                    "healthy",
                    name,
                    seed,
                    lambda arrange=arrange, seed=seed: healthy(laboratory_, arrange, seed),
                )  # type: ignore[misc]


def staged(
    laboratory_: Laboratory,
    fault: Fault,
    seed: int,
    truth: tuple[str, ...],
    layers: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Stages a fault, waits until its oracle sees it, and asks triage."""
    try:
        with laboratory_.scene(seed, fault) as scene, ExitStack() as stack:
            if not fault.own_workers:
                stack.enter_context(scene.working())
            stack.enter_context(fault.stage(scene))
            scene.until(lambda: fault.shows(scene), "the fault takes hold", STAGING_SECONDS)
            time.sleep(SETTLE_SECONDS)
            found = look(scene)
    except RunbookError as error:
        return {
            "right": None,
            "found": [],
            "verdict": f"not staged: {error}",
            "layer": None,
            "seconds": 0.0,
            "truth": list(truth),
        }
    names = [each.cause.id for each in found.causes]
    if truth:
        right = set(names) == set(truth) if len(truth) > 1 else names[:1] == list(truth)
    else:
        right = found.verdict == "unknown" and found.layer in layers
    return {
        "right": right,
        "exact": set(names) == set(truth),
        "truth": list(truth),
        **answer(found),
    }


def healthy(laboratory_: Laboratory, arrange: Callable[[Scene], None], seed: int) -> dict[str, Any]:
    """A scene that only looks alarming."""
    with laboratory_.scene(seed) as scene:
        arrange(scene)
        found = look(scene)
    return {
        "right": found.verdict in ("healthy", "watch") and not found.causes,
        "truth": [],
        **answer(found),
    }


def look(scene: Scene) -> Diagnosis:
    with open_context(scene.looking, require_schema=False) as context:
        return diagnose_context(context)


def answer(found: Diagnosis) -> dict[str, Any]:
    return {
        "verdict": found.verdict, "found": [each.cause.id for each in found.causes], "layer": found.layer, "seconds": found.seconds,
        "symptoms": [fact.name for fact in found.facts.symptoms()],
    }  # fmt: skip


def rows() -> list[dict[str, Any]]:
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text("utf-8").splitlines()]


def done() -> set[tuple[str, str, int]]:
    return {(row["kind"], row["name"], row["seed"]) for row in rows() if row["right"] is not None}


def keep(row: dict[str, Any]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def table() -> None:
    """A figure for each kind of scene, with its misses and what they were mistaken for."""
    found = {(row["kind"], row["name"], row["seed"]): row for row in rows()}.values()
    for kind, bar in BARS.items():
        of = [row for row in found if row["kind"] == kind and row["right"] is not None]
        if not of:
            continue
        right = sum(row["right"] for row in of)
        share = 100 * right / len(of)
        misses = {
            f"{row['name']}#{row['seed']}": row["found"] or row["verdict"]
            for row in of
            if not row["right"]
        }
        figures.report(
            f"{kind}: right, {right} of {len(of)}",
            share,
            "%",
            bar=f">= {bar:g} %",
            met=share >= bar,
            samples=misses,
        )
        for name, mistaken in misses.items():
            print(f"  miss {name}: {mistaken}")
    seconds = sorted(row["seconds"] for row in found if row["right"] is not None)
    if seconds:
        worst = seconds[min(len(seconds) - 1, int(len(seconds) * 0.95))]
        figures.report(
            "open to verdict, p95", worst, "s", bar="<= 30 s", met=worst <= 30, samples=seconds
        )
    for row in found:
        if row["right"] is None:
            print(f"  not staged {row['name']}#{row['seed']}: {row['verdict']}")
    print(f"Not staged here: {json.dumps(NOT_STAGED)}")


if __name__ == "__main__":
    main()
