"""A reviewer's signature: name, meaning and time, as an entry that commits to the run's."""

from __future__ import annotations

import json

from runbook_lib.archive import chain
from runbook_lib.archive.chain import Entry
from runbook_lib.archive.entries import find_entry, state_of_notebook
from runbook_lib.archive.store import Store
from runbook_lib.credentials.masking import mask
from runbook_lib.database import Database
from runbook_lib.database.statements import load
from runbook_lib.errors import CouldNotBeDone, UsageError

MEANINGS = ("reviewed", "approved", "rejected")
LONGEST_NOTE_CHARACTERS = 2000


def sign_off(
    database: Database, store: Store, run: str, *, reviewer: str, meaning: str, note: str | None = None
) -> Entry:  # fmt: skip
    """Signs a run that ended, whose notebook is unaltered; returns the signature's entry.

    The record holds {run_id, entry, entry_sha256, reviewer, meaning, note, own_run}; `own_run` says
    that the reviewer ran it. The name is what the reviewer gave: it is no proof of who that was.
    """
    if meaning not in MEANINGS or len(note or "") > LONGEST_NOTE_CHARACTERS:
        raise UsageError(f"A sign-off means {', '.join(MEANINGS)}; its note has at most {LONGEST_NOTE_CHARACTERS} characters.")  # fmt: skip
    found = find_entry(database, run)
    if (state := state_of_notebook(store, found)) in ("altered", "missing"):
        raise CouldNotBeDone(
            f"The notebook of run {found['run_id']} is {state}; it is not signed. Run `runbook archive verify`."
        )
    with database.transaction() as transaction:
        about = transaction.rows(load("archive")["entries_about"], subject=found["run_id"])
        signed = next((row for row in reversed(about) if row.kind.startswith("run")), None)
        if signed is None:
            raise UsageError(f"Run {found['run_id']} has no entry yet; it {found['status']}.")
        stem = json.loads(signed.entry)["record"]["name"].removesuffix(
            f".{signed.sequence}.{signed.kind}.json"
        )
        record = {
            "run_id": found["run_id"],
            "entry": signed.sequence,
            "entry_sha256": chain.sha256(signed.entry),
            "reviewer": reviewer,
            "meaning": meaning,
            "note": None if note is None else mask(note),
            "own_run": reviewer == found["actor"],
        }
        entry = chain.append(
            transaction, chain.SIGN_OFF, found["run_id"], record,
            beside=stem,
        )  # fmt: skip
    chain.copy_entries(database, store)
    return entry
