"""Checks archived runs: do chain, objects and rows agree, and what was done to them if not?

Beside an export: `python3 verify.py [--anchor TEXT|FILE]… [--json]`. It needs Python 3.8 and nothing
else. Exit status 0: all agree, 1: findings. `runbook archive verify` runs the same checks on everything.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from datetime import date
from pathlib import Path
from typing import Any

ANCHOR = re.compile(r"runbook-archive:([0-9a-f]{12}):(\d{1,15}):([0-9a-f]{64})")
TABLE, BESIDE, HEAD = "archive_entries", "the file beside the objects", "the row of archive_head"
ANCHORED, TIMES = "the anchor", ("due_at", "started_at", "ended_at")


def digest(data: bytes | str) -> str:
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()


def parsed(text: Any) -> dict[str, Any]:  # an entry, or an empty one for what is none
    try:
        entry = json.loads(text)
        named = [*entry["objects"], *entry["rows"], entry["record"]]
        known = [(each["name"] + each["sha256"]).strip() for each in named]
        known += [date.fromisoformat(entry["at"][:10]), entry["previous"] + entry["kind"]]
        return entry if known and type(entry["sequence"]) is int else {}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def check(seen: dict[str, Any]) -> list[dict[str, Any]]:
    """All findings, each {entry, kind, detail}. `seen` is as `read_export` makes it."""
    findings: set[Any] = set()
    compare(seen, follow_chain(seen, findings), findings)
    found = sorted(findings, key=lambda finding: (finding[0] or 0, *finding[1:]))
    return [dict(zip(("entry", "kind", "detail"), finding)) for finding in found]  # noqa: B905


def follow_chain(seen: dict[str, Any], findings: set[Any]) -> dict[int, dict[str, Any]]:
    """From the end to the beginning, since each entry vouches for the one before it."""
    held, late, head = {TABLE: seen["entries"], BESIDE: seen["copies"]}, seen["uncopied"], seen["head"]  # fmt: skip
    vouched = {n: (sha, ANCHORED) for chain, n, sha in seen["anchors"] if chain == seen["chain"]}
    last = {TABLE: max(held[TABLE], default=0), BESIDE: max([*held[BESIDE], *late], default=0), HEAD: head["sequence"]}  # fmt: skip
    end = max([*last.values(), *vouched])
    findings |= {(last[each] + 1, "cut_off", f"{each} ends with {last[each]}, not {end}") for each in last if last[each] < end}  # fmt: skip
    vouched.setdefault(head["sequence"], (head["sha256"], HEAD))
    entries = {}
    for n in range(end, seen["first"] - 1, -1):
        texts = {where: held[where][n] for where in held if n in held[where]}
        expected, by = vouched.get(n, (None, "the other one"))
        right = [text for text in texts.values() if digest(text) == expected]
        for where in held:
            if (text := texts.get(where)) is None:
                if n <= last[where] and not (where == BESIDE and n in late):
                    findings.add((n, "removed", f"the entry is not in {where}"))
            elif text not in right if expected else len(set(texts.values())) > 1:
                if (other := parsed(text).get("sequence")) != n and parsed(
                    held[where].get(other)
                ).get("sequence") == n:
                    findings.add((n, "swapped", f"{where} holds entry {other} in its place"))
                else:
                    kind = "rewritten" if by == ANCHORED and not right else "altered"
                    findings.add((n, kind, f"{where} is not the entry that {by} vouches for"))
        if entry := parsed((right or list(texts.values()) or [""])[0]):
            entries[n] = entry
            vouched.setdefault(n - 1, (entry["previous"], f"entry {n}"))
        if entry and entries.get(n + 1, entry)["at"] < entry["at"]:
            findings.add((n + 1, "back_dated", f"it is older than entry {n} before it"))
    return dict(sorted(entries.items()))


def compare(seen: dict[str, Any], entries: dict[int, Any], findings: set[Any]) -> None:
    """What the entries say of objects, records and rows against what is there."""
    found, records = dict(seen["found"]), {}
    for n, text in seen["records"].items():
        found[f"record {n}"] = digest(text)
        if n in entries and found[f"record {n}"] == entries[n]["record"]["sha256"]:
            records[n] = json.loads(text)
    deleted = {each for n in records if entries[n]["kind"] == "deletion" for each in records[n]["entries"]}  # fmt: skip
    expected, optional = {}, set()
    for n, entry in entries.items():
        if seen["complete"] is not None and n not in seen["complete"]:
            continue
        inside = {"name": f"record {n}", "sha256": entry["record"]["sha256"]}
        for each in [*entry["objects"], *entry["rows"], entry["record"], inside]:
            late = each is entry["record"] and n in seen["uncopied"]
            if n in deleted or late or (each is inside and n not in seen["entries"]):
                optional.add(each["name"])
            else:
                expected[each["name"]] = (each["sha256"], n)
        ended = records.get(n, {}).get("ended_at") if entry["kind"] == "run" else None
        if ended and (date.fromisoformat(entry["at"][:10]) - date.fromisoformat(ended[:10])).days > 1:  # fmt: skip
            findings.add((n, "back_dated", f"the run says {ended}, but was entered {entry['at']}"))
    known, under_way = {*expected, *optional}, seen["open_runs"]
    strangers = {name: sha for name, sha in found.items() if name not in known and not any(run in name for run in under_way)}  # fmt: skip
    holders = {sha: name for name, (sha, _) in expected.items()}
    for name, (sha, n) in expected.items():
        if (now := found.get(name)) is None:
            new = next((other for other, theirs in strangers.items() if theirs == sha), None)
            strangers.pop(new, None)
            findings.add((n, "renamed" if new else "removed", f"{name}: {new or 'it is gone'}"))
        elif now != sha and found.get(holders.get(now)) == sha:
            findings.add((n, "swapped", f"{name}: it holds {holders[now]}"))
        elif now != sha:
            row, record = seen["rows"].get(name, {}), records.get(n, {})
            changed = [each for each in record if each in row and row[each] != record[each]]
            back = [each for each in TIMES if each in changed and str(row[each]) < str(record[each])]  # fmt: skip
            findings.add((n, "back_dated" if back else "altered", f"{name}: {', '.join(changed)}"))
    findings |= {(None, "inserted", f"{name}: no entry names it") for name in strangers}


def read_export(folder: Path, anchors: list[Any]) -> dict[str, Any]:
    """What an export holds: the same that `runbook archive verify` reads from database and store."""
    seen = {**json.loads((folder / "evidence.json").read_text("ascii")), "anchors": anchors}
    seen["entries"] = {int(n): text for n, text in seen["entries"].items()}
    seen["records"] = {int(n): text for n, text in seen["records"].items()}
    rows = {f"{path.parent.name}/{path.stem}": path for path in folder.glob("rows/*/*.json")}
    seen["found"] = {name: digest(path.read_bytes()) for name, path in rows.items()}
    seen["rows"] = {name: json.loads(path.read_text("ascii")) for name, path in rows.items()}
    seen["copies"], objects = {}, folder / "objects"
    for path in filter(Path.is_file, objects.rglob("*")):
        name, data = path.relative_to(objects).as_posix(), path.read_bytes()
        if copy := re.fullmatch(rf"chain/{seen['chain']}/\d+/(\d{{12}})\.json", name):
            seen["copies"][int(copy[1])] = data.decode("ascii", "replace")
        else:
            seen["found"][name] = digest(data)
    return seen


def main(arguments: list[str]) -> int:
    texts = [each if ANCHOR.search(each) else Path(each).read_text("utf-8") for each in arguments if each[:2] != "--"]  # fmt: skip
    anchors = [(chain, int(n), sha) for text in texts for chain, n, sha in ANCHOR.findall(text)]
    seen = read_export(Path(__file__).resolve().parent, anchors)
    answer = {"entries": len(seen["entries"]), "findings": (findings := check(seen))}
    lines = [f"entry {each['entry']}: {each['kind']}: {each['detail']}" for each in findings]
    lines.append(f"{len(seen['entries'])} entries, {len(seen['complete'])} with their objects")
    print(json.dumps(answer) if "--json" in arguments else "\n".join(lines))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
