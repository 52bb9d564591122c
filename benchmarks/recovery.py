"""How soon jobs flow again after the first action that triage recommends was done by itself: none lost, none doubled.

make bench NAME=recovery                   each fault whose first action is safe by itself, one seed
ONLY=quota,poison make bench NAME=recovery some of them
TWINS=1 make bench NAME=recovery           each beside its untreated twin, repaired at the same moment
"""

from __future__ import annotations

import logging
import os

from benchmarks import figures
from runbook_lib.rehearsal.laboratory import laboratory
from runbook_lib.rehearsal.recovery import (
    RECOVERED_WITHIN_SECONDS,
    Recovery,
    automatable,
    not_automated,
    recover,
)

BAR_PERCENT = 90.0


def main() -> None:
    """Runs each fault, prints a line for each, and the share that recovered."""
    logging.disable(logging.WARNING)
    only = {name for name in os.environ.get("ONLY", "").split(",") if name}
    seed = int(os.environ.get("SEED", "0"))
    faults = [
        each for each in automatable() if not only or only & {each.name, *each.truth}
    ]  # fmt: skip
    treated, twins = [], []
    with laboratory() as laboratory_:
        for fault in faults:
            treated.append(_shown(recover(laboratory_, fault, seed)))
            if os.environ.get("TWINS"):
                twins.append(_shown(recover(laboratory_, fault, seed, treated=False)))
    _report("recovered", treated, BAR_PERCENT)
    if twins:
        _report("untreated twins: recovered", twins, None)
    for cause, words in not_automated().items():
        print(f"  nothing to do by itself: {cause}: {words}")


def _shown(found: Recovery) -> Recovery:
    when = "not in time" if found.seconds is None else f"{found.seconds:6.1f} s"
    how = "by the action alone"
    if found.repaired:
        how = "repaired, resumed" if found.resumed else "repaired"
    said = f"named {', '.join(found.named) or 'nothing'}; {found.kind} ({found.outcome})"
    if found.problem is not None:
        print(f"---- {found.fault:20} not staged: {found.problem}", flush=True)
        return found
    print(f"{'well' if found.well else 'MISS':5}{found.fault:20} {when} {how:20} lost {found.lost} doubled {found.doubled}  {said}  left: {', '.join(found.left) or 'nothing'}", flush=True)  # fmt: skip
    return found


def _report(name: str, found: list[Recovery], bar_percent: float | None) -> None:
    staged = [each for each in found if each.problem is None]
    if not staged:
        return
    well = sum(each.well for each in staged)
    share = 100 * well / len(staged)
    bar = None if bar_percent is None else f">= {bar_percent:g} % within {RECOVERED_WITHIN_SECONDS:g} s"  # fmt: skip
    samples = [each.as_dictionary() for each in found]
    figures.report(f"{name}, {well} of {len(staged)}", share, "%", bar=bar, met=None if bar_percent is None else share >= bar_percent, samples=samples)  # fmt: skip
    seconds = sorted(each.seconds for each in staged if each.seconds is not None)
    if seconds:
        figures.report(f"{name}: longest", seconds[-1], "s", samples=seconds)
    figures.report(f"{name}: jobs lost", sum(each.lost for each in staged), "jobs", bar="0" if bar_percent else None, met=None if bar_percent is None else not sum(each.lost for each in staged))  # fmt: skip
    figures.report(f"{name}: posts doubled", sum(each.doubled for each in staged), "posts", bar="0" if bar_percent else None, met=None if bar_percent is None else not sum(each.doubled for each in staged))  # fmt: skip


if __name__ == "__main__":
    main()
