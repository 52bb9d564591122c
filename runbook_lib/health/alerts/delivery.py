"""Sends what is due to one address after the other, each address on its own.

Sent is at least once: who dies between sending and noting it leaves a delivery that the next monitor
sends again, with the same alert's number in it. Everything else is once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import psycopg2

from runbook_lib.credentials.masking import one_line
from runbook_lib.errors import RunbookError
from runbook_lib.health.alerts.database_book import DatabaseOutbox
from runbook_lib.health.alerts.file_book import FileBook
from runbook_lib.health.alerts.outbox import retry_after
from runbook_lib.health.alerts.records import Delivery
from runbook_lib.health.alerts.sending import Message, Sending, Sent
from runbook_lib.health.alerts.targets import Target
from runbook_lib.policy import Alerting

# Claimed at a time for one address; what is behind a slow one may be taken by another monitor.
AT_A_TIME = 10
LEASE_MARGIN_SECONDS = 15.0
# The sending process is kept for what follows soon, such as a recovery.
IDLE_SECONDS = 60.0

Say = Callable[[dict[str, Any]], None]
ChartOf = Callable[[Delivery], bytes | None]


class Outbox(Protocol):
    """Where deliveries wait: the database, or the file while that is away."""

    def claim(self, target_keys: list[str], count: int, lease_seconds: float) -> list[Delivery]: ...

    def renew(self, delivery: Delivery, lease_seconds: float) -> bool: ...

    def settle(
        self, delivery: Delivery, *, arrived: bool, seconds: float, reason: str | None,
        retry_seconds: float,
    ) -> None: ...  # fmt: skip


class OpenSending(Protocol):
    """The way to one address."""

    def start(self) -> None: ...

    def send(self, message: Message) -> Sent: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Round:
    """What one round did for an address."""

    sent: int = 0
    failed: int = 0

    def __add__(self, other: Round) -> Round:
        return Round(self.sent + other.sent, self.failed + other.failed)


class Deliverer:
    """Sends from both outboxes to one address; `open_sending` is how it is reached."""

    def __init__(
        self, target: Target, rules: Alerting, file_book: FileBook, say: Say, chart_of: ChartOf,
        open_sending: Callable[[Target, float], OpenSending] = Sending,
    ) -> None:  # fmt: skip
        self._target = target
        self._rules = rules
        self._file_book = file_book
        self._say = say
        self._chart_of = chart_of
        self._open_sending = open_sending
        self._sending: OpenSending | None = None
        self._used_at = 0.0

    def send_what_is_due(self, database_outbox: DatabaseOutbox | None) -> Round:
        """One round. Never raises for the database: what it holds waits until it is back."""
        done = self._send_from(self._file_book)
        if database_outbox is not None:
            try:
                done += self._send_from(database_outbox)
            except (RunbookError, psycopg2.Error) as error:
                self._say({"event": "deliveries_wait", "target": self._target.name,
                           "message": one_line(str(error), 300)})  # fmt: skip
        if time.monotonic() - self._used_at > IDLE_SECONDS:
            self.close()
        return done

    def close(self) -> None:
        """Ends the sending process; the next message starts another."""
        if self._sending is not None:
            self._sending.close()
            self._sending = None

    def _send_from(self, outbox: Outbox) -> Round:
        lease_seconds = self._rules.delivery_deadline_seconds + LEASE_MARGIN_SECONDS
        done = Round()
        while claimed := outbox.claim([self._target.key], AT_A_TIME, lease_seconds):
            sending = self._open()
            for delivery in claimed:
                # Whatever takes time comes before the lease is renewed: nobody else sends it meanwhile.
                chart = self._chart_of(delivery)
                if outbox.renew(delivery, lease_seconds):
                    done += self._send(sending, outbox, delivery, chart)
        return done

    def _open(self) -> OpenSending:
        if self._sending is None:
            self._sending = self._open_sending(self._target, self._rules.delivery_deadline_seconds)
        try:
            self._sending.start()
        except OSError:
            pass  # said with the first message that is sent
        self._used_at = time.monotonic()
        return self._sending

    def _send(
        self, sending: OpenSending, outbox: Outbox, delivery: Delivery, chart: bytes | None
    ) -> Round:
        sent = sending.send(Message(delivery.title, delivery.body, delivery.severity, chart))
        retry_seconds = retry_after(delivery.attempts, self._rules).total_seconds()
        try:
            outbox.settle(
                delivery, arrived=sent.arrived, seconds=sent.seconds, reason=sent.reason,
                retry_seconds=retry_seconds,
            )  # fmt: skip
        except (RunbookError, psycopg2.Error):
            if sent.arrived:
                self._file_book.settle_elsewhere(delivery, sent.seconds)
            raise
        finally:
            self._tell(delivery, sent)
        return Round(sent=1) if sent.arrived else Round(failed=1)

    def _tell(self, delivery: Delivery, sent: Sent) -> None:
        event = {"event": "alert_sent" if sent.arrived else "alert_not_sent",
                 "target": delivery.target, "kind": delivery.kind, "title": delivery.title,
                 "attempt": delivery.attempts, "seconds": sent.seconds}  # fmt: skip
        self._say(event if sent.arrived else {**event, "message": sent.reason})
