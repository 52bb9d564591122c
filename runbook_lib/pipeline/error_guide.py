"""The guide to errors: for each scenario what it means, what to do first, which procedure to open.

Every error scenario of the written runbook stands here, and every failure class belongs to one, so that
an alert, a job's page and a notebook say the same. A foreign pipeline's text is told by its hard facts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from runbook_lib.pipeline.failures import FAILURE_CLASSES


@dataclass(frozen=True)
class Scenario:
    """One kind of trouble. `first_action` is safe: it loses no job and doubles no post.

    `level` is who should take it on (1 to 3). `signs` are what a text of it says.
    """

    id: str
    title: str
    meaning: str
    advice: tuple[str, ...]
    first_action: str
    procedure: str
    level: int
    classes: tuple[str, ...] = ()
    signs: str | None = None


# The order is that in which a text is compared: what is more certain comes first.
SCENARIOS: tuple[Scenario, ...] = (
    # the written runbook's: OpenAI
    Scenario(
        "openai_quota", "OpenAI: insufficient quota",
        "The account has no credit left or met a spending limit. Trying again does not help.",
        ("See usage and limits at the provider.", "Add credit or raise the limit, or wait until the quota is reset.", "Then resume OpenAI: the jobs waited uncharged."),
        "runbook pause openai --reason \"quota is gone\"", "troubleshooting/openai_errors", 1,
        ("openai_quota_exhausted",), r"insufficient_quota|exceeded your current quota|billing_(?:hard|not)|budget_exceeded|credit balance",
    ),
    Scenario(
        "openai_rate_limit", "OpenAI: rate limit exceeded",
        "More requests or tokens a minute than the account may send.",
        ("All workers wait as long as OpenAI asks.", "If it stays, lower the rate or the concurrency for all workers.", "Ask for a higher tier if the volume is meant."),
        "runbook limits set openai --concurrency 2", "troubleshooting/openai_errors", 1,
        ("openai_rate_limited",), r"rate_limit_exceeded|rate limit reached|too many requests.*openai|\b(?:TPM|RPM|RPD|TPD)\b",
    ),
    Scenario(
        "openai_key", "OpenAI: invalid API key",
        "OpenAI does not accept the key, or the key may not do this.",
        ("Look whether the key was rotated or revoked.", "Stage a new key, test it, activate it.", "If the key may have leaked, open the procedure for a compromised key."),
        "runbook pause openai --reason \"key is refused\"", "troubleshooting/openai_errors", 2,
        ("openai_key_invalid", "openai_permission_denied"), r"invalid_api_key|incorrect api key|invalid api key|authenticationerror",
    ),
    Scenario(
        "openai_configuration", "OpenAI: wrong address, model or settings",
        "What is configured does not fit what answers: every request fails alike.",
        ("Let the doctor say which setting it is.", "Look for what was changed last.",),
        "runbook doctor", "troubleshooting/openai_errors", 2,
        ("openai_wrong_address", "openai_model_not_found", "openai_settings_refused"), r"model_not_found|model .{0,60}does not exist|unsupported_parameter",
    ),
    Scenario(
        "openai_trouble", "OpenAI: slow, overloaded or not reachable",
        "OpenAI answers with errors, late or not at all. It passes; jobs are tried again.",
        ("Look at the provider's status page.", "If it lasts, pause OpenAI, so that no attempt is spent on it."),
        "runbook pause openai --reason \"OpenAI is in trouble\" --until 30m", "troubleshooting/openai_errors", 1,
        ("openai_overloaded", "openai_unreachable", "openai_timeout", "openai_answer_unreadable"), r"apitimeouterror|apiconnectionerror|api\.openai\.com|server_error|overloaded",
    ),
    Scenario(
        "topic_refused", "The topic cannot be written about",
        "The model, its filter or the request's size refuses this one topic.",
        ("Reword or shorten the topic and add it as a new job.",),
        "runbook jobs show JOB_ID", "troubleshooting/openai_errors", 1,
        ("openai_content_filtered", "openai_refused", "openai_context_too_long", "openai_request_refused", "topic_too_long", "topic_unusable"),
        r"content_policy_violation|content_filter|context_length_exceeded|safety system",
    ),
    Scenario(
        "bad_content", "The article must not be published as it is",
        "What was written is cut, empty, too short, repeated or in the wrong language. It was stopped before anything went out.",
        ("It is written again by itself.", "If it stays, look at the model and at what was published before."),
        "runbook jobs list --status error", "emergency/bad_content", 2,
        ("content_truncated", "content_empty", "content_too_short", "content_repetitive", "content_wrong_language", "content_leftovers"),
        r"finish_reason=?'?length|empty (?:article|content|answer)",
    ),
    # the written runbook's: WordPress
    Scenario(
        "wordpress_login", "WordPress: authentication failed",
        "The site does not accept the user and application password, or the user may not publish.",
        ("Check the user's name and that the application password still exists.", "Check that the user has the role Author or Editor.", "Then resume WordPress: articles are stored and wait."),
        "runbook pause wordpress --reason \"login is refused\"", "troubleshooting/wordpress_errors", 1,
        ("wordpress_login_failed", "wordpress_permission_lost"),
        r"incorrect_password|invalid_username|rest_not_logged_in|rest_cannot_(?:create|edit|publish)|rest_forbidden|application password|not allowed to (?:create|publish|edit) posts",
    ),
    Scenario(
        "wordpress_site", "WordPress: site not accessible",
        "The site or its REST API cannot be reached, answers with errors, or asks for a pause.",
        ("Open the site in a browser, and its /wp-json/ address.", "Check WORDPRESS_URL, the certificate and redirects.", "If it lasts, pause WordPress; writing goes on and articles are stored."),
        "runbook pause wordpress --reason \"the site is down\" --until 30m", "troubleshooting/wordpress_errors", 1,
        ("wordpress_unavailable", "wordpress_unreachable", "wordpress_timeout", "wordpress_answer_unreadable", "wordpress_rest_off", "wordpress_redirected", "wordpress_certificate_invalid", "wordpress_rate_limited", "wordpress_outcome_unknown"),
        r"wp-json|scheduled maintenance|error establishing a database connection|critical error on this website|curl error",
    ),
    Scenario(
        "wordpress_category", "WordPress: category not found",
        "The site does not have the category that the job names.",
        ("Make the category at the site, or name a fall-back category.", "Then retry these jobs."),
        "runbook jobs list --status error", "troubleshooting/wordpress_errors", 1,
        ("wordpress_category_missing",), r"category .{0,120}(?:not found|does not exist|missing)|rest_term_invalid|no category",
    ),
    Scenario(
        "wordpress_post", "WordPress: the post was refused or changed",
        "The site refused this post, stored something else, or somebody removed or took it.",
        ("Read the message; it names the field or what differs.", "Look at the post at the site before trying again."),
        "runbook jobs show JOB_ID", "troubleshooting/wordpress_errors", 1,
        ("wordpress_request_refused", "wordpress_answer_differs", "wordpress_post_gone", "wordpress_post_not_ours"), r"rest_invalid_param|rest_post_invalid_id|db_insert_error",
    ),
    # the written runbook's: the database
    Scenario(
        "database_connections", "Database: connection limit exceeded",
        "The server, the role or the pooler gives no more connections.",
        ("See who holds them, by application.", "Close idle sessions of your own programs, or lower their number.", "Use the pooler in transaction mode."),
        "runbook doctor", "troubleshooting/database_errors", 2,
        (), r"too many connections|remaining connection slots|max client connections|connection limit|too many clients|query_wait_timeout",
    ),
    Scenario(
        "database_deadlock", "Database: deadlock detected",
        "Two transactions waited for each other and one was ended. Trying again helps.",
        ("Retry; if it comes again, find the two statements in the log.", "Claims must use FOR UPDATE SKIP LOCKED and lock in one order.", "Fewer jobs at once make it rarer."),
        "runbook workers", "troubleshooting/database_errors", 2,
        (), r"deadlock|40P01",
    ),
    Scenario(
        "database_timeout", "Database: time-out on a query",
        "A statement ran longer than it may, or waited for a lock that somebody holds.",
        ("Look for a blocking session first: a lock looks the same as a slow query.", "Then for the statement's plan and a missing index.", "A longer time-out is the last thing to change."),
        "runbook function performance-monitor", "troubleshooting/database_errors", 2,
        (), r"statement timeout|lock timeout|57014|55P03|query.{0,20}timed? ?out|idle-in-transaction",
    ),
    Scenario(
        "database_trouble", "Database: not reachable or refusing",
        "No connection, a wrong password, a missing right or table, a read-only or a full database.",
        ("Let the doctor say which step fails.", "Look for what was changed last: a migration, a grant, a password, a failover."),
        "runbook doctor", "troubleshooting/database_errors", 2,
        (), r"password authentication failed|permission denied for|(?:relation|column) .{0,120} does not exist|read-only transaction|no space left on device|server closed the connection|could not (?:connect to server|translate host name)|connection to server|violates .{0,30}constraint|supabase\.co",
    ),
    # the written runbook's: processing
    Scenario(
        "duplicate_content", "Duplicate content",
        "The same topic came twice, or an article is nearly the same as a recent one.",
        ("Find the earlier job; it is named.", "Look at who creates the jobs, and whether they send an idempotency key."),
        "runbook jobs list --status error", "troubleshooting/duplicate_content", 1,
        ("content_too_alike",), r"duplicate (?:content|topic|article)|idempotency_key|too alike",
    ),
    Scenario(
        "stuck_jobs", "Jobs stuck in processing",
        "A worker vanished in the middle. Its lease runs out and any worker takes the job back.",
        ("Preview what a sweep would take back, then sweep.", "Look at the host of the worker that vanished.", "A job that workers keep vanishing on is in quarantine: look at it first."),
        "runbook function sweeper --data '{\"dry_run\": true}'", "emergency/stuck_jobs", 1,
        ("worker_lost", "quarantined"), r"worker .{0,80}vanished|stuck|stale|lease|killed by signal|out of memory",
    ),
    Scenario(
        "slow_jobs", "Slow job processing",
        "An attempt took longer than it may.",
        ("See which stage is slow: writing, publishing, or the pipeline itself.", "Then that provider's response times, or the database's statements.", "More jobs at once help only when nothing of these is at its limit."),
        "runbook function performance-monitor", "troubleshooting/slow_jobs", 1,
        ("attempt_deadline_exceeded",), r"wall clock|cpu time|timed? ?out|deadline exceeded",
    ),
    Scenario(
        "by_hand", "Ended or handed back on purpose",
        "An operator or a stopping worker did this. Nothing is wrong.",
        ("Nothing to do.",), "runbook jobs show JOB_ID", "daily/health_check", 1,
        ("cancelled", "worker_stopped", "provider_paused", "waiting_for_site"),
    ),
    Scenario(
        "unknown", "Not known",
        "No rule knows this error.",
        ("Read the sample and the job's attempts.", "Run the triage: it narrows down the layer."),
        "runbook jobs show JOB_ID", "emergency/system_down", 2,
        ("unexpected_error",),
    ),
)  # fmt: skip
UNKNOWN = SCENARIOS[-1]


def scenario_of_class(error_class: str | None) -> Scenario:
    """The scenario of a failure class; `unknown` for one that nobody knows."""
    return _by_class().get(error_class or "", UNKNOWN)


def scenario_of_text(text: str | None) -> Scenario:
    """The scenario that a text tells of, for a pipeline that stores no classes."""
    for scenario, signs in _by_signs():
        if text and signs.search(text):
            return scenario
    return UNKNOWN


@cache
def _by_class() -> dict[str, Scenario]:
    found = {name: scenario for scenario in SCENARIOS for name in scenario.classes}
    assert found.keys() <= FAILURE_CLASSES.keys()
    return found


@cache
def _by_signs() -> tuple[tuple[Scenario, re.Pattern[str]], ...]:
    return tuple(
        (scenario, re.compile(scenario.signs, re.IGNORECASE | re.DOTALL))
        for scenario in SCENARIOS
        if scenario.signs
    )
