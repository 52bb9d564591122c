"""The score of the rehearsals as one page: the table, what was taken for what, and each fault with its seeds.

python -m benchmarks.rehearsals_page       makes the page from the results that are there
"""

from __future__ import annotations

import html
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.rehearsals_table import Measure, Row, answered, measures, misses

KINDS = {
    "catalogue": "Faults of the catalogue", "compound": "Two causes at once", "partial": "Milder and partial faults",
    "held-out": "Held out: no rule was tuned on these", "unknown": "Causes that no rule knows", "healthy": "Healthy, but alarming",
    "control": "Control runs", "black-hole": "A dependency that swallows everything", "broken": "Broken states",
}  # fmt: skip
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c62828; --none: #7a7a7a; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 76rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
th.n { text-align: right; }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.good { color: var(--good); font-weight: 600; } .bad { color: var(--bad); font-weight: 600; } .none { color: var(--none); }
@media (prefers-color-scheme: dark) { :root { --good: #5bd27a; --bad: #ff8a80; --none: #a8a8a8; } }
.seeds { display: flex; gap: .25rem; flex-wrap: wrap; }
.seed { border: 1px solid currentColor; border-radius: .3rem; padding: 0 .4rem; font-size: .85rem; }
ul { padding-left: 1.2rem; } li { overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  thead { display: none; }
  tr { display: block; border-bottom: 1px solid var(--line); padding: .5rem 0; }
  td, td.n { display: grid; grid-template-columns: 7rem minmax(0, 1fr); border: 0; padding: .15rem 0; text-align: left; white-space: normal; }
  td::before { content: attr(data-name); color: var(--none); }
}
"""


def write_page(path: Path, rows: Sequence[Row], not_staged: Mapping[str, str]) -> None:
    """Writes the page; it needs nothing from anywhere else."""
    path.write_text(page(rows, not_staged), "utf-8")


def page(rows: Sequence[Row], not_staged: Mapping[str, str]) -> str:
    run = [row for row in rows if row["right"] is not None]
    parts = [
        f"<p>{len(run)} scenes were staged for real, {sum(bool(row['right']) for row in run)} of them answered rightly. "
        f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.</p>",
        "<h2>The bars</h2>", _measures(measures(rows)),
        "<h2>What was missed</h2>", _list(misses(rows), "Nothing was missed."),
        "<h2>What was taken for what</h2>", _confusion(run),
        *(part for kind, words in KINDS.items() for part in _of_kind(kind, words, rows)),
        "<h2>Not staged here</h2>", _list([f"{cause}: {reason}" for cause, reason in not_staged.items()], "Everything was staged."),
    ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Score of the rehearsals</title><style>{_STYLE}</style></head><body><main><h1>Score of the rehearsals</h1>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )


def _measures(found: Sequence[Measure]) -> str:
    states = {True: ("good", "met"), False: ("bad", "missed"), None: ("none", "too few")}
    return _table(
        ("Measure", "Value", "Bar", "Met", "Of"),
        [
            (
                html.escape(each.name), f"{each.value:.4g} {html.escape(each.unit)}", html.escape(each.bar),
                f'<span class="{states[each.met][0]}">{states[each.met][1]}</span>', f"{each.samples}",
            )
            for each in found
        ],
        numbers=(1, 4),
    )  # fmt: skip


def _confusion(rows: Sequence[Row]) -> str:
    """Truth against answer, for what was not right: the diagonal would only repeat the seeds below."""
    taken: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row["kind"] in ("catalogue", "compound", "partial", "held-out", "unknown", "healthy"):
            truth = " + ".join(row["truth"]) or (
                "healthy" if row["kind"] == "healthy" else f"unknown: {row['name']}"
            )
            taken[truth][answered(row) if not row["right"] else "named rightly"] += 1
    lines = [
        (
            html.escape(truth), str(answers["named rightly"]),
            ", ".join(f"{html.escape(answer)} ×{count}" for answer, count in answers.items() if answer != "named rightly") or "–",
        )
        for truth, answers in sorted(taken.items(), key=lambda pair: (pair[1]["named rightly"] == pair[1].total(), pair[0]))
    ]  # fmt: skip
    return _table(("Truth", "Right", "Taken for"), lines, numbers=(1,))


def _of_kind(kind: str, words: str, rows: Sequence[Row]) -> list[str]:
    of: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["kind"] == kind:
            of[row["name"]].append(row)
    if not of:
        return []
    lines = [
        (
            html.escape(name), html.escape(" + ".join(seeds[0]["truth"]) or "–"),
            f'<div class="seeds">{"".join(_seed(row) for row in sorted(seeds, key=lambda row: row["seed"]))}</div>',
            _seconds(seeds, "seconds"), _seconds(seeds, "scene_seconds"),
        )
        for name, seeds in of.items()
    ]  # fmt: skip
    return [f"<h2>{words}</h2>", _table(("Scene", "Truth", "Seeds", "Verdict after", "Scene took"), lines, numbers=(3, 4))]  # fmt: skip


def _seed(row: Row) -> str:
    if row["right"] is None:
        return f'<span class="seed none" title="{html.escape(row["problem"])}">{row["seed"]} not staged</span>'
    state, words = ("good", "right") if row["right"] else ("bad", "wrong")
    return f'<span class="seed {state}" title="{html.escape(answered(row))}">{row["seed"]} {words}</span>'


def _seconds(rows: Sequence[Row], name: str) -> str:
    known = [row[name] for row in rows if row.get(name) is not None]
    return f"{max(known):.1f} s" if known else "–"


def _table(
    names: Sequence[str], lines: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()
) -> str:
    head = "".join(
        f'<th scope="col"{" class=n" if number in numbers else ""}>{name}</th>'
        for number, name in enumerate(names)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td{" class=n" if number in numbers else ""} data-name="{names[number]}"><div>{cell}</div></td>'
            for number, cell in enumerate(line)
        )
        + "</tr>"
        for line in lines
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _list(lines: Sequence[str], empty: str) -> str:
    if not lines:
        return f"<p>{empty}</p>"
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


if __name__ == "__main__":
    from benchmarks.rehearsals import NOT_STAGED, PAGE, newest_rows

    write_page(PAGE, newest_rows(), NOT_STAGED)
    print(PAGE)
