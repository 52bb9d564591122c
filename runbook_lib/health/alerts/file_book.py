"""Alerts without the database: the same rules over a file that the monitors of this host share.

After each survey with the database its memory is kept here. While the database cannot be written, it
is decided from it, and sent from here. What follows goes to the spool, which files it later. Monitors
on other hosts know nothing of it then: an alert without the database comes once from each host.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from runbook_lib.durable_files import write_durably
from runbook_lib.health.alerts.decisions import Decided, Memory, decide
from runbook_lib.health.alerts.messages import Place
from runbook_lib.health.alerts.outbox import compose
from runbook_lib.health.alerts.records import (
    Delivery,
    alert_of,
    as_record,
    delivery_of,
    state_of,
    state_record,
)
from runbook_lib.health.alerts.rules import Alert
from runbook_lib.health.alerts.targets import Target
from runbook_lib.health.checks import Check
from runbook_lib.policy import Policy
from runbook_lib.spool import Spool

State = dict[str, Any]
_EMPTY: State = {"away": False, "surveyed_at": None, "states": {}, "alerts": {}, "deliveries": {}}


class FileBook:
    """The file, and the spool beside it; one process at a time has it open."""

    def __init__(self, directory: Path, spool: Spool) -> None:
        self._path = directory / "monitor.json"
        self._lock = directory / "monitor.lock"
        self._spool = spool

    def keep(self, states: Iterable[State], alerts: Iterable[Alert]) -> None:
        """Keeps what the database knows, for the time when it is away."""
        with self._open() as found:
            found["away"] = False
            found["states"] |= {state["check_name"]: state for state in states}
            found["alerts"] = {
                each.alert_id: as_record(each) for each in alerts if not each.settled
            }

    def states_since_away(self) -> list[State]:
        """What checks answered while the database was away; nothing when it was not."""
        found = self._read()
        return list(found["states"].values()) if found["away"] else []

    def take_turn(self, interval_seconds: float) -> bool:
        """Whether no monitor of this host has surveyed in this interval."""
        now = datetime.now(UTC)
        with self._open() as found:
            last = found["surveyed_at"]
            # Four fifths: a turn that came a little early is the next one all the same.
            pause = timedelta(seconds=interval_seconds * 0.8)
            if last is not None and timedelta(0) <= now - datetime.fromisoformat(last) < pause:
                return False
            found["surveyed_at"] = now.isoformat()
            return True

    def decide(
        self, checks: Sequence[Check], policy: Policy, targets: Sequence[Target], place: Place
    ) -> tuple[Decided, list[Delivery]]:
        """Takes up one survey without the database, by this host's clock."""
        now = datetime.now(UTC)
        answers = {check.name: check for check in checks}
        with self._open() as found:
            memory = Memory(
                {name: state_of(state) for name, state in found["states"].items()},
                tuple(alert_of(alert) for alert in found["alerts"].values()),
            )
            decided = decide(memory, checks, now, policy)
            deliveries = compose(decided.notices, checks, targets, place, now)
            # On the disk before it is sent: the record must not hang on a message's fate.
            for alert in decided.alerts:
                self._spool.put("alert", as_record(alert))
            found["away"] = True
            for state in decided.states:
                found["states"][state.check_name] = state_record(state, answers[state.check_name])
            for alert in decided.alerts:
                found["alerts"][alert.alert_id] = as_record(alert)
                if alert.settled:
                    del found["alerts"][alert.alert_id]
            _supersede(found, deliveries)
            found["deliveries"] |= {each.delivery_id: as_record(each) for each in deliveries}
        return decided, deliveries

    def claim(self, target_keys: Sequence[str], count: int, lease_seconds: float) -> list[Delivery]:
        """Takes what is due from here, as the database's outbox does."""
        if not self._read()["deliveries"]:
            return []
        now = datetime.now(UTC)
        taken: list[Delivery] = []
        with self._open() as found:
            for record in found["deliveries"].values():
                delivery = delivery_of(record)
                leased = record.get("lease_until")
                free = leased is None or datetime.fromisoformat(leased) <= now
                due = delivery.target_key in target_keys and delivery.next_attempt_at <= now
                if free and due and len(taken) < count:
                    delivery = replace(delivery, attempts=delivery.attempts + 1)
                    lease_until = now + timedelta(seconds=lease_seconds)
                    record |= {"attempts": delivery.attempts, "lease_until": lease_until.isoformat()}  # fmt: skip
                    taken.append(delivery)
        return taken

    def renew(self, delivery: Delivery, lease_seconds: float) -> bool:
        """Whether it is still ours, for one more lease."""
        now = datetime.now(UTC)
        with self._open() as found:
            record = found["deliveries"].get(delivery.delivery_id)
            leased = record and record.get("lease_until")
            if record is None or leased is None or datetime.fromisoformat(leased) <= now:
                return False
            record["lease_until"] = (now + timedelta(seconds=lease_seconds)).isoformat()
            return True

    def settle_elsewhere(self, delivery: Delivery, seconds: float) -> None:
        """What was sent from the database, and could not be noted there: the spool tells it later."""
        sent = replace(delivery, status="sent", sent_at=datetime.now(UTC), seconds=seconds)
        self._spool.put("alert_delivery", as_record(sent))

    def settle(
        self, delivery: Delivery, *, arrived: bool, seconds: float, reason: str | None,
        retry_seconds: float,
    ) -> None:  # fmt: skip
        """What became of it. What was sent goes to the spool; the rest waits here."""
        now = datetime.now(UTC)
        with self._open() as found:
            record = found["deliveries"].get(delivery.delivery_id)
            if record is None:
                return
            record |= {"seconds": seconds, "last_error": reason, "lease_until": None,
                       "next_attempt_at": (now + timedelta(seconds=retry_seconds)).isoformat()}  # fmt: skip
            if arrived:
                sent = record | {"status": "sent", "sent_at": now.isoformat()}
                self._spool.put("alert_delivery", sent)
                del found["deliveries"][delivery.delivery_id]

    def waiting(self) -> list[Delivery]:
        """What was not sent yet."""
        return [delivery_of(record) for record in self._read()["deliveries"].values()]

    def open_alerts(self) -> list[Alert]:
        """The alerts that are open as far as this host knows."""
        found = (alert_of(record) for record in self._read()["alerts"].values())
        return [alert for alert in found if alert.resolved_at is None]

    def give_up(self, older_than: timedelta) -> None:
        """What could not be sent for so long is filed as failed."""
        limit = datetime.now(UTC) - older_than
        with self._open() as found:
            for record in list(found["deliveries"].values()):
                if delivery_of(record).created_at < limit:
                    self._spool.put("alert_delivery", record | {"status": "failed"})
                    del found["deliveries"][record["delivery_id"]]

    @contextmanager
    def _open(self) -> Iterator[State]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            found = self._read()
            before = json.dumps(found)
            yield found
            after = json.dumps(found)
            if after != before:
                write_durably(self._path, after.encode())
        finally:
            os.close(descriptor)

    def _read(self) -> State:
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            found = {}
        return {**json.loads(json.dumps(_EMPTY)), **(found if isinstance(found, dict) else {})}


def _supersede(found: State, deliveries: Iterable[Delivery]) -> None:
    """Of an alert that ended, what was not sent yet: its end tells all of it."""
    ended = {each.alert_id for each in deliveries if each.kind == "resolved"}
    for delivery_id, record in list(found["deliveries"].items()):
        if record["alert_id"] in ended and record.get("lease_until") is None:
            del found["deliveries"][delivery_id]
