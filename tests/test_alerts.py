"""Alerts in the database and without it: one for a cause, told once, never lost, acknowledged by people."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fault_server import FaultServer

from runbook_lib.database import Database
from runbook_lib.errors import NotFoundError, UsageError
from runbook_lib.health.alerts import acknowledge, list_alerts, sender, show_alert
from runbook_lib.health.alerts.chart import draw
from runbook_lib.health.alerts.database_book import DatabaseOutbox
from runbook_lib.health.alerts.delivery import Deliverer, Round
from runbook_lib.health.alerts.desk import Desk
from runbook_lib.health.alerts.messages import procedure_command, procedure_path
from runbook_lib.health.alerts.sender import Complaints
from runbook_lib.health.alerts.sending import Message, Sending, Sent
from runbook_lib.health.alerts.targets import Target, open_targets
from runbook_lib.health.checks import Check
from runbook_lib.health.context import Context, open_context
from runbook_lib.policy import Alerting, Policy
from runbook_lib.settings import Settings
from runbook_lib.spool import open_spool

# What is bad once is told at once, and what is good once has recovered.
AT_ONCE = Alerting(
    bad_times=1, bad_minutes=0, good_minutes=0, delivery_deadline_seconds=20,
    delivery_retry_seconds=1, delivery_retry_maximum_seconds=1,
)  # fmt: skip
SECRET = "s3cr3tHookToken42"


@dataclass
class Webhook:
    """A real web server that takes alerts; `status` is what it answers."""

    status: int = 200
    received: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> Webhook:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hook.status < 300:
                    hook.received.append(json.loads(body))
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self._server.server_port}/hook/{SECRET}"

    @property
    def titles(self) -> list[str]:
        return [each["title"] for each in self.received]


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as hook:
        yield hook


def check(verdict: Any = "critical", name: str = "queue.oldest_pending", **more: Any) -> Check:
    return Check(name, verdict, f"It is {verdict}.", **more)


@pytest.fixture
def context(settings: Settings, webhook: Webhook) -> Iterator[Context]:
    with open_context(
        settings.model_copy(update={"runbook_alert_urls": secret(webhook.url)})
    ) as found:
        yield Context(found.settings, Policy(alerting=AT_ONCE), found.sources)  # fmt: skip


def secret(text: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(text)


class InThisProcess:
    """Sends for real, over HTTP, without the second that a process of its own takes to start."""

    _complaints: Complaints | None = None

    def __init__(self, target: Target, _deadline_seconds: float) -> None:
        self._url = target.url
        # One for all: it listens to apprise for good.
        InThisProcess._complaints = InThisProcess._complaints or Complaints()

    def start(self) -> None: ...

    def send(self, message: Message) -> Sent:
        assert self._complaints is not None
        self._complaints.clear()
        reason = sender.send(
            {
                "url": self._url, "title": message.title, "body": message.body,
                "severity": message.severity,
                "chart": base64.b64encode(message.chart or b"").decode(),
            },
            self._complaints,
        )  # fmt: skip
        return Sent(reason is None, 0.1, reason)

    def close(self) -> None: ...


def desk_of(context: Context, name: str = "one") -> Desk:
    return Desk(context.settings, context.policy, "the pipeline", name)


def send(desk: Desk, database: Database | None, say: Callable[..., None] = lambda _: None) -> Round:
    """One round to every address."""
    outbox = DatabaseOutbox(database, desk.monitor) if database else None
    done = Round()
    for target in desk.targets:
        deliverer = Deliverer(
            target, desk.policy.alerting, desk.file_book, say,
            lambda _: b"\x89PNG picture", open_sending=InThisProcess,
        )  # fmt: skip
        done += deliverer.send_what_is_due(outbox)
    return done


def rows(database: Database, statement: str) -> list[Any]:
    with database.transaction() as transaction:
        return transaction.rows(statement)


def run(database: Database, statement: str) -> None:
    with database.transaction() as transaction:
        transaction.run(statement)


@pytest.fixture
def away(settings: Settings) -> Database:
    """A database where nobody listens."""
    return Database("postgresql://nobody:nothing@127.0.0.1:1/none")


def test_an_alert_and_its_recovery_arrive_with_all_that_somebody_at_night_needs(
    context: Context, database: Database, webhook: Webhook
) -> None:
    settings = context.settings.model_copy(
        update={"runbook_public_url": "https://ops.example.org/"}
    )
    policy = context.policy.model_copy(
        update={"levels": {**context.policy.levels, "1": context.policy.levels["1"].model_copy(update={"contacts": ("+49 30 1234",)})}}
    )  # fmt: skip
    desk = Desk(settings, policy, "db.example.org:5432/content", "one")
    bad = check(
        name="openai.response_time", value=12.5, unit="s", threshold=5, source="probe.models",
        does_not_prove="that articles are good", next="Look at the provider.",
        procedure="troubleshooting/provider", parameters={"provider": "open ai", "hours": 3},
    )  # fmt: skip
    desk.observe(database, [bad])
    desk.observe(database, [bad])
    assert send(desk, database) == Round(sent=1)
    desk.observe(database, [check("ok", "openai.response_time")])
    assert send(desk, database) == Round(sent=1)

    opened, recovered = webhook.received
    assert opened["title"].startswith("CRITICAL: openai.response_time")
    assert opened["type"] == "failure"
    for words in (
        "Value 12.5 s, limit 5 s (from probe.models)",
        "Does not prove that articles are good",
        "https://ops.example.org/procedures/troubleshooting/provider?provider=open+ai&hours=3",
        "runbook run troubleshooting/provider -p 'provider=open ai' -p hours=3",
        "Level 1, System administrator, acts: +49 30 1234",
        "https://help.openai.com",
        "db.example.org:5432/content",
        "runbook alerts ack ",
        "Since 20",
    ):
        assert words in opened["message"], words
    assert opened["attachments"][0]["mimetype"] == "image/png"
    assert recovered["title"].startswith("RECOVERED: openai.response_time")
    assert recovered["type"] == "success"


def test_two_monitors_that_see_the_same_open_one_alert_and_send_it_once(
    context: Context, database: Database, webhook: Webhook
) -> None:
    desks = [desk_of(context, name) for name in ("one", "two")]
    both = threading.Barrier(2)

    def monitor(desk: Desk) -> None:
        both.wait(30)
        for _ in range(3):
            desk.observe(database, [check()])
        both.wait(30)
        send(desk, database)

    threads = [threading.Thread(target=monitor, args=(desk,)) for desk in desks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(webhook.received) == 1
    (alert,) = list_alerts(context)
    assert (alert["sent"], alert["waiting"], alert["seen_times"]) == (1, 0, 6)


def test_what_a_monitor_that_died_had_claimed_is_sent_by_another_after_its_lease(
    context: Context, database: Database, webhook: Webhook
) -> None:
    dead, other = desk_of(context, "dead"), desk_of(context, "other")
    dead.observe(database, [check()])
    claimed = DatabaseOutbox(database, "dead").claim([dead.targets[0].key], 10, lease_seconds=60)
    assert len(claimed) == 1
    assert send(other, database) == Round()
    run(database, "UPDATE alert_deliveries SET lease_until = now() - interval '1 s'")
    assert send(other, database) == Round(sent=1)
    # It was only slow: what it says of a delivery that is not its own any more counts for nothing.
    outbox = DatabaseOutbox(database, "dead")
    outbox.settle(claimed[0], arrived=False, seconds=1, reason="late", retry_seconds=0)
    assert not outbox.renew(claimed[0], 60)
    assert send(other, database) == Round()
    assert len(webhook.received) == 1


def test_a_message_that_fails_is_tried_again_later_and_shows_no_secret(
    context: Context, database: Database, webhook: Webhook
) -> None:
    desk, said = desk_of(context), []
    webhook.status = 503
    desk.observe(database, [check()])
    assert send(desk, database, said.append) == Round(failed=1)
    assert send(desk, database) == Round()
    (row,) = rows(database, "SELECT * FROM alert_deliveries")
    assert row.status == "pending"
    assert row.next_attempt_at > row.created_at
    assert "503" in row.last_error
    webhook.status = 200
    run(database, "UPDATE alert_deliveries SET next_attempt_at = now()")
    assert send(desk, database) == Round(sent=1)
    everything = repr(said) + repr(rows(database, "SELECT * FROM alert_deliveries"))
    assert SECRET not in everything
    assert SECRET not in repr(desk.targets)


def test_what_was_not_sent_of_an_alert_that_ended_is_left_out(
    context: Context, database: Database, webhook: Webhook
) -> None:
    desk = desk_of(context)
    webhook.status = 500
    desk.observe(database, [check()])
    send(desk, database)
    desk.observe(database, [check("ok")])
    webhook.status = 200
    run(database, "UPDATE alert_deliveries SET next_attempt_at = now()")
    send(desk, database)
    assert [title.split(":")[0] for title in webhook.titles] == ["RECOVERED"]


def test_what_cannot_be_sent_for_long_is_given_up_and_stays_an_alarm(
    context: Context, database: Database
) -> None:
    from runbook_lib.health.alerts import undelivered

    desk = desk_of(context)
    desk.observe(database, [check()])
    assert undelivered(context) == []
    run(database, "UPDATE alert_deliveries SET created_at = now() - interval '25 hours'")
    desk.observe(database, [check()])
    (row,) = undelivered(context)
    assert row["given_up"] == 1
    assert "No monitor" in row["reason"]


def test_without_the_database_the_alert_is_sent_once_by_this_host_and_filed_late(
    context: Context, database: Database, webhook: Webhook, away: Database
) -> None:
    desk, other = desk_of(context), desk_of(context, "two")
    for each in (desk, other, desk):
        observed = each.observe(away, [check(name="database.reachable")])
        assert observed.problem
        send(each, away)
    assert [title.split(" · ")[0] for title in webhook.titles] == ["CRITICAL: database.reachable"]

    # The database is back: it is filed, marked, goes on as the same alert, and recovers.
    desk.observe(database, [check(name="database.reachable")])
    (alert,) = list_alerts(context)
    assert alert["filed_late"]
    assert alert["sent"] == 1
    desk.observe(database, [check("ok", "database.reachable")])
    send(desk, database)
    assert [title.split(":")[0] for title in webhook.titles] == ["CRITICAL", "RECOVERED"]
    assert open_spool(context.settings).waiting() == []
    (delivery, *_) = rows(database, "SELECT * FROM alert_deliveries ORDER BY created_at")
    assert (delivery.status, delivery.filed_late) == ("sent", True)


def test_an_alert_that_was_open_before_the_database_went_away_is_not_told_again(
    context: Context, database: Database, webhook: Webhook, away: Database
) -> None:
    desk = desk_of(context)
    desk.observe(database, [check()])
    send(desk, database)
    down = check(name="database.reachable")
    desk.observe(away, [check(), down])
    desk.observe(away, [check("ok"), down])
    send(desk, away)
    assert [title.split(" · ")[0] for title in webhook.titles] == [
        "CRITICAL: queue.oldest_pending", "CRITICAL: database.reachable", "RECOVERED: queue.oldest_pending",
    ]  # fmt: skip
    desk.observe(database, [check("ok"), check("ok", "database.reachable")])
    send(desk, database)
    assert webhook.titles[3].startswith("RECOVERED: database.reachable")
    assert len(webhook.titles) == 4
    assert list_alerts(context) == []


def test_a_database_that_cannot_be_written_is_an_alarm_of_its_own(
    context: Context, database: Database, webhook: Webhook
) -> None:
    desk = desk_of(context)
    reading = Database(database.url)
    run(
        database,
        f"ALTER DATABASE {database.url.rpartition('/')[2]} SET default_transaction_read_only = on",
    )
    observed = desk.observe(reading, [check("ok", "database.reachable")])
    assert observed.problem
    send(desk, None)
    assert "alerts.bookkeeping" in webhook.titles[0]


def test_the_same_cause_opened_on_two_sides_of_an_outage_is_merged(
    context: Context, database: Database, away: Database, tmp_path: Path
) -> None:
    cut_off = desk_of(context)
    cut_off.observe(away, [check()])
    elsewhere = Context(
        context.settings.model_copy(update={"runbook_home": tmp_path / "elsewhere"}),
        context.policy,
        context.sources,
    )
    desk_of(elsewhere).observe(database, [check()])
    cut_off.observe(database, [check()])
    assert len(list_alerts(context)) == 1
    ended = [each for each in list_alerts(context, resolved=True) if each["resolved_at"]]
    merged = [each for each in ended if each["cause"] == "queue.oldest_pending"]
    assert [each["resolution"] for each in merged] == ["merged"]


def test_what_was_sent_while_the_database_went_away_is_not_sent_again(
    context: Context, database: Database, webhook: Webhook
) -> None:
    desk = desk_of(context)
    desk.observe(database, [check()])
    (delivery,) = DatabaseOutbox(database, "one").claim([desk.targets[0].key], 1, 60)
    desk.file_book.settle_elsewhere(delivery, 0.5)
    desk.observe(database, [check()])
    run(database, "UPDATE alert_deliveries SET lease_until = NULL, next_attempt_at = now()")
    assert send(desk, database) == Round()
    assert rows(database, "SELECT status FROM alert_deliveries")[0].status == "sent"


def test_events_become_one_alert_a_kind_and_old_ones_none(
    context: Context, database: Database, webhook: Webhook
) -> None:
    run(
        database,
        """
        INSERT INTO events (kind, level, message, provider, occurred_at)
        SELECT 'job_quarantined', 'critical', 'Job ' || number || ' is in quarantine.', NULL, now() FROM generate_series(1, 30) AS number
        UNION ALL SELECT 'lease_expired', 'warning', 'old news', NULL, now() - interval '3 days'
        UNION ALL SELECT 'job_ended_in_error', 'info', 'a failed job', NULL, now()
        """,
    )
    desk = desk_of(context)
    desk.observe(database, [])
    desk.observe(database, [])
    send(desk, database)
    assert len(webhook.received) == 1
    (alert,) = list_alerts(context)
    assert (alert["cause"], alert["seen_times"]) == ("event.job_quarantined", 30)
    left = rows(database, "SELECT kind FROM events WHERE delivered_at IS NULL")
    assert [row.kind for row in left] == ["job_ended_in_error"]


def test_an_acknowledgement_is_kept_with_its_name_and_leaves_a_record(context: Context, database: Database) -> None:  # fmt: skip
    desk_of(context).observe(database, [check()])
    (alert,) = list_alerts(context)
    found = acknowledge(context, alert["alert_id"][:6], actor="ada", note="I am at it")
    assert (found["status"], found["acknowledged_by"]) == ("acknowledged", "ada")
    (action,) = rows(database, "SELECT * FROM admin_actions")
    assert (action.action, action.actor, action.outcome) == ("acknowledge_alert", "ada", "done")
    assert show_alert(context, alert["alert_id"])["deliveries"][0]["kind"] == "opened"
    desk_of(context).observe(database, [check("ok")])
    with pytest.raises(UsageError, match="has ended"):
        acknowledge(context, alert["alert_id"], actor="ada")
    with pytest.raises(NotFoundError):
        acknowledge(context, "00000000", actor="ada")
    with pytest.raises(UsageError, match="no alert's id"):
        acknowledge(context, "%", actor="ada")


def test_reports_are_made_once_an_hour_and_once_a_day_by_whoever_comes_first(
    context: Context, database: Database, webhook: Webhook
) -> None:
    checks = [
        check("warning"),
        check("ok", "queue.depth"),
        check("warning", "failures.jobs_of_day"),
    ]
    desks = [desk_of(context, name) for name in ("one", "two")]
    # The first monitor ever does not know whether a report was expected.
    desks[0].observe(database, checks)
    run(database, "UPDATE monitor_reports SET due_at = due_at - interval '1 day'")
    for desk in (*desks, *desks):
        desk.observe(database, checks)
    sent = [row.kind for row in rows(database, "SELECT kind FROM alert_deliveries WHERE alert_id IS NULL")]  # fmt: skip
    reports = rows(database, "SELECT * FROM monitor_reports WHERE sent")
    # An hour may have begun meanwhile.
    assert sorted(sent) == sorted(row.kind for row in reports)
    assert {row.kind: row.verdict for row in reports} == {
        "hourly_health": "warning",
        "daily_failure_rate": "warning",
    }
    (daily,) = [row for row in reports if row.kind == "daily_failure_rate"]
    assert "failures.jobs_of_day" in daily.message


# --- sending --------------------------------------------------------------------------------------


def target_of(url: str) -> Target:
    (target,) = open_targets(Settings(runbook_alert_urls=secret(url)))
    return target


def test_a_service_that_drips_its_answer_is_ended_at_the_deadline() -> None:
    with FaultServer(lambda server, connection: _drip(server, connection)) as server:
        url = f"json://127.0.0.1:{server.port}/x"
        with Sending(target_of(url), deadline_seconds=2) as sending:
            sent = sending.send(Message("title", "body", chart=b"\x89PNG"))
            folder = Path(sending._folder.name)
            assert list(folder.iterdir()) == [], "the killed process left its chart behind"
    assert not folder.exists()
    assert not sent.arrived
    assert "after 2 s" in (sent.reason or "")


def _drip(server: FaultServer, connection: Any) -> None:
    server.read_request(connection)
    server.drip(connection, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000)


def test_addresses_are_split_named_without_secrets_and_known_for_masking() -> None:
    from runbook_lib.credentials.masking import mask

    token = "TIiajkdnlazkcOXrIdevi7FQ"
    text = (
        f"json://127.0.0.1/a,b,level2=slack://T1JJ3T3L2/A1BRTD4JD/{token}/ "
        "mailto://bot:pass-word-9@example.org nonsense json://127.0.0.1/a,b"
    )
    settings = Settings(runbook_alert_urls=secret(text))
    settings.make_secrets_known()
    targets = open_targets(settings)
    assert [target.name for target in targets] == [
        "json 1 at 127.0.0.1", "slack 2", "mailto 3 at example.org", "address 4",
    ]  # fmt: skip
    assert targets[0].url == "json://127.0.0.1/a,b"
    assert [target.from_level for target in targets] == [1, 2, 1, 1]
    assert not targets[1].is_told(1)
    assert targets[1].is_told(1, also_told=(3,))
    for hidden in (token, "pass-word-9", "T1JJ3T3L2"):
        assert hidden not in mask(f"it said {hidden} in {text}")


def test_a_chart_is_a_picture_and_too_few_figures_make_none() -> None:
    now = datetime.now(UTC)
    values = [(now - timedelta(minutes=number), float(number), "critical" if number < 5 else "ok") for number in range(30)]  # fmt: skip
    png = draw("queue.depth", values, now - timedelta(minutes=5), "jobs", 10)
    assert png is not None
    assert png.startswith(b"\x89PNG")
    assert len(png) < 60_000
    assert draw("queue.depth", values[:2], now, None, None) is None


def test_a_procedures_link_and_line_are_quoted() -> None:
    parameters = {"class": "a b&c", "dry": True}
    assert procedure_path("chapter/name", parameters) == "/procedures/chapter/name?class=a+b%26c&dry=true"  # fmt: skip
    assert procedure_command("chapter/name", parameters) == "runbook run chapter/name -p 'class=a b&c' -p dry=true"  # fmt: skip
