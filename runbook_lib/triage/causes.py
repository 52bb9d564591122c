"""The catalogue of causes: what each predicts of the facts, what rules it out, and what to do first.

The ids are what other programs read. `needs` must all hold; `one_of` at least one of each group; `supports`
make it surer, by their weight; `excludes` rule it out. A cause is named only when what holds comes from at
least two different statements or probes. `explains` are causes that look like it and follow from it: they
are not named beside it. `mistaken_for` tells a reader what to compare with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

# Y: safe without a person; P: proposed, a person confirms; N: never.
Automation = Literal["Y", "P", "N"]
_IN_BRACES = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class FirstAction:
    """What to do first. `command` shows or does it; `change` is a kind of change that plans it.

    A name in braces in `words`, `command` and `parameters` is filled in with whom the evidence is about: `{worker}`,
    `{pid}`, `{job_id}`, `{category}`. `never` is what the written runbook, or habit, advises and what does
    harm here.
    """

    words: str
    command: str
    automation: Automation
    change: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    never: str | None = None

    def about(self, subject: Mapping[str, object]) -> FirstAction:
        """The action for whom the evidence is about. Where that is not known, there is nothing to plan."""
        wanted = {
            name: str(value)[1:-1]
            for name, value in self.parameters.items()
            if str(value).startswith("{")
        }
        known = all(name in subject for name in wanted.values())
        filled = {name: subject[of] for name, of in wanted.items() if of in subject}
        return replace(
            self,
            words=_IN_BRACES.sub(lambda name: str(subject.get(name[1], name[1])), self.words),
            command=_IN_BRACES.sub(
                lambda name: str(subject.get(name[1], name[1].upper())), self.command
            ),
            change=self.change if known else None,
            parameters={**self.parameters, **filled} if known else {},
        )


@dataclass(frozen=True)
class Cause:
    """One cause. `stands` names facts of which one holds while it lasts; else it is over, and to be watched.
    `of_single_jobs`: it strikes those alone, so that what strikes all is told before it."""

    id: str
    layer: str
    title: str
    action: FirstAction
    needs: tuple[str, ...] = ()
    one_of: tuple[tuple[str, ...], ...] = ()
    supports: Mapping[str, float] = field(default_factory=dict)
    excludes: tuple[str, ...] = ()
    explains: tuple[str, ...] = ()
    mistaken_for: tuple[str, ...] = ()
    stands: tuple[str, ...] = ()
    of_single_jobs: bool = False
    level: int = 1
    procedure: str = "emergency/system_down"


def _pause(provider: str, why: str, never: str | None = None) -> FirstAction:
    return FirstAction(
        f"Keep {provider} paused (workers do it by themselves; what is written and what waits is kept), and repair it.",
        f'runbook pause {provider} --reason "{why}"', "Y", "provider.pause",
        {"provider": provider, "reason": why}, never,
    )  # fmt: skip


def _look(
    words: str, command: str, automation: Automation = "P", never: str | None = None
) -> FirstAction:
    return FirstAction(words, command, automation, never=never)


_DOCTOR = "runbook doctor"
_NO_MORE_CONCURRENCY = "Do not raise the concurrency: it makes this worse."
_NO_SWEEPER = "Do not run the sweeper while workers live: jobs would be given out twice."
DATABASE_ERRORS, OPENAI_ERRORS, WORDPRESS_ERRORS = (
    "troubleshooting/database_errors", "troubleshooting/openai_errors", "troubleshooting/wordpress_errors",
)  # fmt: skip

# A worker whose writes are refused gives no sign of life either.
_FOLLOWS_FROM_REFUSED_WRITES = (
    "worker-stuck",
    "network-half-open",
    "workers-stopped",
    "worker-crash-loop",
)

CAUSES: tuple[Cause, ...] = (
    # the database
    Cause(
        "database-down", "connect", "The database server is down: its host answers, and nothing listens at its port.",
        _look("Tell whoever runs the server. Workers wait by themselves and lose nothing; leave them running.", _DOCTOR, "Y"),
        needs=("database.refused",), supports={"database.unanswered": 1, "database.name_resolved": 1},
        excludes=("database.name_unresolved", "database.opens_sessions"),
        mistaken_for=("database-hung", "database-password-wrong", "dns-failure"), level=2, procedure=DATABASE_ERRORS,
    ),
    Cause(
        "database-hung", "connect", "The database server hangs: it takes connections and says nothing.",
        _look("Tell whoever runs the server; recycle the pooler if there is one. Restarting workers does not help.", _DOCTOR,
              never="Do not restart the workers: those with an open session may be the only ones that still work."),
        needs=("database.silent",), supports={"database.unanswered": 1, "database.connects": 1},
        excludes=("database.refused", "database.name_unresolved"),
        mistaken_for=("database-table-locked", "network-half-open"), level=2, procedure=DATABASE_ERRORS,
    ),
    Cause(
        "database-password-wrong", "log in", "The database refuses the password: it was changed, or the setting is wrong.",
        _look("Put the right password into DATABASE_URL, then restart the workers one after another. Old sessions go on working until then.", _DOCTOR,
              never="Do not restart all workers at once before the new password is right: those with an open session still work."),
        needs=("database.login_password",), supports={"database.connects": 1, "database.unanswered": 1},
        excludes=("database.opens_sessions",), mistaken_for=("one-worker-outdated",), level=2, procedure=DATABASE_ERRORS,
    ),
    Cause(
        "database-connections-exhausted", "log in", "The server has no connection left.",
        FirstAction("See who holds the sessions, and close idle ones of your own programs, at the program or here: a pool opens new ones. Of the workbench itself, end a worker (SIGTERM).",
                    "runbook changes plan sessions.end_idle -p \"application={application}\" -p role={role}", "P", "sessions.end_idle", {"application": "{application}", "role": "{role}"}, _NO_MORE_CONCURRENCY),
        one_of=(("database.login_server", "database.connections_full_server"),),
        supports={"database.one_program_holds_idle_sessions": 2, "database.connects": 1, "database.unanswered": 1},
        mistaken_for=("database-role-or-pooler-limit", "concurrency-too-high"), level=2, procedure=DATABASE_ERRORS,
    ),
    Cause(
        "database-role-or-pooler-limit", "log in", "The role, the database or the pooler gives no more connections; the server itself has some.",
        FirstAction("Lower the number of connections: drain a worker (each has one), or close other clients of the same role or pooler.", "runbook workers drain {worker}", "Y", "workers.drain", {"worker": "{worker}"}, _NO_MORE_CONCURRENCY),
        one_of=(("database.login_role", "database.login_database", "database.login_pooler", "database.connections_full_role", "database.connections_full_database", "database.pooler_queues"),),
        supports={"database.connects": 1, "database.unanswered": 1, "database.answers": 1, "database.old_worker_sessions_live": 1, "workers.some_alive": 1},
        excludes=("database.login_server", "database.connections_full_server"),
        mistaken_for=("database-connections-exhausted", "openai-slow"), level=2, procedure=DATABASE_ERRORS,
    ),
    Cause(
        "database-table-locked", "query", "A session holds a lock on a whole table of the pipeline; everybody else waits.",
        FirstAction("Look at the blocking session and ask its owner to end it; else end it: that one, not those who wait.", "runbook changes plan sessions.end -p pid={pid} -p how=terminate", "P",
                    "sessions.end", {"pid": "{pid}", "since": "{since}", "how": "terminate"}, "Do not raise the time-out of queries: they would only wait longer."),
        needs=("database.table_lock_held",), one_of=(("database.sessions_wait", "database.reading_waits_for_a_lock", "queue.not_claimed", "workers.sessions_wait_for_a_lock", "workers.process_there"),),
        explains=("network-half-open", "database-rows-locked-by-idle-transaction", "database-index-missing", "database-statistics-stale-or-bloated", "worker-stuck", "worker-killed", "workers-stopped"),
        mistaken_for=("database-index-missing", "database-statistics-stale-or-bloated"), level=2, procedure=DATABASE_ERRORS,
    ),
    Cause(
        "database-index-missing", "claim", "An index that claiming needs is missing or invalid, and the table is large.",
        FirstAction("Make the index again without stopping anybody (CREATE INDEX CONCURRENTLY).", "runbook changes plan indexes.create -p names={index}", "P", "indexes.create", {"names": "{index}"}),
        needs=("database.claim_index_missing",), one_of=(("database.table_large", "database.statements_slow", "queue.waits_long"),),
        supports={"database.statements_slow": 1, "queue.waits_long": 1}, excludes=("database.table_lock_held",),
        mistaken_for=("database-table-locked", "database-statistics-stale-or-bloated"), level=2, procedure="monthly/database_optimization",
    ),
    Cause(
        "database-statistics-stale-or-bloated", "query", "Dead rows pile up: vacuum does not get rid of them.",
        FirstAction("End whatever holds the old transaction, after looking at it; then VACUUM (ANALYZE) the table.", "runbook run monthly/database_optimization", "P", "sessions.end", {"pid": "{pid}", "how": "terminate"}),
        needs=("database.dead_rows_many",), one_of=(("database.old_transaction", "database.snapshot_held", "database.autovacuum_off", "database.statements_slow", "database.slow_answers", "queue.waits_long"),),
        supports={"database.old_transaction": 1, "database.snapshot_held": 1, "database.autovacuum_off": 1}, excludes=("database.claim_index_missing", "database.table_lock_held"), mistaken_for=("database-index-missing", "openai-slow"), level=2, procedure="monthly/database_optimization",
    ),
    Cause(
        "database-rows-locked-by-idle-transaction", "claim", "A session sits idle in a transaction that locked waiting jobs: the queue looks empty to workers.",
        FirstAction("Look at the session that sits in the transaction, and terminate it.", "runbook changes plan sessions.end -p pid={pid} -p how=terminate", "P", "sessions.end", {"pid": "{pid}", "since": "{since}", "how": "terminate"}),
        needs=("database.idle_transaction_holds_jobs",), one_of=(("queue.not_claimed", "queue.jobs_due"),), supports={"queue.not_claimed": 2, "workers.some_alive": 1},
        excludes=("database.table_lock_held",), explains=("workers-stopped",), mistaken_for=("producer-stopped", "workers-stopped"), level=2, procedure=DATABASE_ERRORS,
    ),
    Cause(
        "database-grant-revoked", "record", "The role that works lacks a right on our tables.",
        _look("Have the tables' owner grant it again: this prints what the role needs.", "runbook db grants {role} --as worker", "N"),
        needs=("database.rights_missing",), supports={"queue.not_claimed": 2, "database.answers": 1, "check.queue.last_success": 1, "queue.jobs_due": 1},
        one_of=(("database.answers", "queue.not_claimed"),), excludes=("database.read_only",), explains=_FOLLOWS_FROM_REFUSED_WRITES, mistaken_for=("database-read-only",), level=2, procedure=DATABASE_ERRORS,
    ),
    Cause(
        "database-read-only", "record", "The database takes no write: a standby, or set to read only.",
        _look("Point DATABASE_URL at the primary, or take the setting back once the reason is gone.", _DOCTOR),
        needs=("database.read_only",), supports={"database.answers": 1, "database.opens_sessions": 1, "queue.not_claimed": 1}, excludes=("database.disk_nearly_full", "failing.disk_full", "database.tablespace_full"),
        explains=_FOLLOWS_FROM_REFUSED_WRITES,
        mistaken_for=("database-grant-revoked", "database-disk-full"), level=2, procedure=DATABASE_ERRORS,
    ),
    Cause(
        "database-disk-full", "record", "The database's disk is full.",
        _look("Stop claiming (pause both providers where that can still be written), free logs or slots, or have the disk enlarged.", "runbook run troubleshooting/database_errors",
              never="Do not delete old runs without exporting them: archive first."),
        one_of=(("database.disk_nearly_full", "failing.disk_full", "database.tablespace_full"),), supports={"database.answers": 1, "failing.disk_full": 1, "database.read_only": 1, "queue.not_claimed": 1, "check.queue.last_success": 1},
        explains=_FOLLOWS_FROM_REFUSED_WRITES, mistaken_for=("database-read-only",), level=3, procedure=DATABASE_ERRORS,
    ),
    Cause(
        "database-deadlocks", "record", "Transactions wait for each other and one of them is ended.",
        _look("Nothing to do at once: attempts are tried again. Find the two statements in the server's log and lock in one order.", "runbook run troubleshooting/database_errors", "Y", never=_NO_MORE_CONCURRENCY),
        one_of=(("failing.deadlocks", "database.deadlocks_go_on"), ("database.deadlocks_counted", "database.sessions_wait", "attempts.some_succeed")),
        supports={"database.deadlocks_counted": 1, "database.deadlocks_go_on": 1}, stands=("failing.deadlocks", "database.deadlocks_go_on"), mistaken_for=("database-table-locked",), level=2, procedure=DATABASE_ERRORS,
    ),
    Cause(
        "database-schema-drift", "query", "The tables are not what the programs expect: a column or a rule was changed.",
        _look("Take back what changed the tables, or finish the migration that was left half-way.", "runbook db status", "N"),
        one_of=(("database.columns_missing", "database.tables_missing", "database.status_rule_differs", "database.columns_demanded", "database.constraints_of_others"),
                ("database.columns_missing", "database.tables_missing", "database.status_rule_differs", "database.columns_demanded", "database.constraint_of_others_refuses", "workers.try_in_vain", "jobs.leases_not_swept", "queue.not_claimed")),
        supports={"database.answers": 1, "database.opens_sessions": 1, "queue.not_claimed": 1, "check.queue.last_success": 1},
        explains=("database-grant-revoked", *_FOLLOWS_FROM_REFUSED_WRITES), level=3, procedure=DATABASE_ERRORS,
    ),
    Cause(
        "database-crash-recovery-loop", "connect", "The database crashed and recovered lately: something kills its processes.",
        _look("Find and stop the program that makes the server crash: its log names the process.", "runbook run troubleshooting/database_errors"),
        needs=("database.recovered_from_a_crash",), supports={"database.statistics_began_with_it": 2, "database.sessions_all_new": 1, "database.answers": 1},
        one_of=(("database.statistics_began_with_it", "database.login_starting", "database.sessions_all_new"),), mistaken_for=("network-flapping",), stands=("database.recovered_just_now", "database.login_starting"), level=3, procedure=DATABASE_ERRORS,
    ),
    # OpenAI
    Cause(
        "openai-quota-exhausted", "generate", "OpenAI's account has no credit left, or met its spending limit.",
        _pause("openai", "quota is gone"),
        one_of=(("failing.openai_quota_exhausted", "openai.quota_refused_now"), ("paused.openai_quota_exhausted", "openai.key_accepted", "openai.quota_refused_now", "attempts.all_fail")),
        supports={"openai.key_accepted": 1, "paused.openai_quota_exhausted": 2}, excludes=("openai.key_refused",), explains=("openai-rate-limited",),
        mistaken_for=("openai-rate-limited",), procedure=OPENAI_ERRORS,
    ),
    Cause(
        "openai-rate-limited", "generate", "OpenAI limits requests or tokens a minute.",
        FirstAction("Lower the concurrency or the rate for all workers; they wait as long as OpenAI asks.", "runbook limits set openai --concurrency 2", "Y", "limits.lower", {"provider": "openai", "concurrency": 2}, _NO_MORE_CONCURRENCY),
        needs=("failing.openai_rate_limited",), supports={"openai.key_accepted": 1, "paused.openai_rate_limited": 1, "partly.openai_rate_limited": 1},
        one_of=(("openai.key_accepted", "paused.openai_rate_limited", "openai.server_not_failing"),),
        excludes=("openai.key_refused",), mistaken_for=("openai-quota-exhausted", "openai-overloaded"), procedure=OPENAI_ERRORS,
    ),
    Cause(
        "openai-key-invalid", "log in", "OpenAI refuses the API key: revoked, or the wrong one.",
        _look("Stage a new key, test it, activate it; workers pick it up without a restart.", "runbook secrets stage OPENAI_API_KEY", "N", never="Do not rotate every key at once: only this one is refused."),
        one_of=(("openai.key_refused", "failing.openai_key_invalid"), ("failing.openai_key_invalid", "paused.openai_key_invalid", "openai.reached_over_http")),
        supports={"openai.key_refused": 3, "paused.openai_key_invalid": 1}, excludes=("openai.key_accepted", "openai.account_refused"), mistaken_for=("openai-key-malformed", "openai-wrong-base-url"), level=2, procedure=OPENAI_ERRORS,
    ),
    Cause(
        "openai-key-malformed", "configuration", "The API key cannot be sent: it holds a stray character.",
        _look("Put the key into its setting again, without line breaks.", _DOCTOR, "N"),
        needs=("settings.key_malformed",), one_of=(("settings.unusable", "openai.reached_over_http"),), mistaken_for=("dns-failure", "openai-key-invalid"), level=2, procedure=OPENAI_ERRORS,
    ),
    Cause(
        "openai-overloaded", "generate", "OpenAI answers with server errors.",
        FirstAction("Pause OpenAI until it answers again, so that no attempt is spent; until then jobs are tried again with growing pauses.", 'runbook pause openai --reason "OpenAI is overloaded" --until 30m', "Y", "provider.pause", {"provider": "openai", "reason": "OpenAI is overloaded"}, _NO_MORE_CONCURRENCY),
        needs=("failing.openai_overloaded",), supports={"openai.server_errors_now": 1, "paused.openai_overloaded": 1, "partly.openai_overloaded": 1, "openai.key_accepted": 1},
        one_of=(("openai.server_errors_now", "openai.key_accepted", "paused.openai_overloaded"),), excludes=("failing.openai_without_server_error",), mistaken_for=("openai-rate-limited", "openai-slow"), procedure=OPENAI_ERRORS,
    ),
    Cause(
        "openai-slow", "generate", "OpenAI answers, and takes much longer than before.",
        _look("Keep leases and deadlines longer than the calls; look at the provider's status page.", "runbook run troubleshooting/slow_jobs", never=_NO_MORE_CONCURRENCY),
        one_of=(("writing.slower_than_before", "writing.under_way_longer"), ("openai.key_accepted", "attempts.some_succeed")), supports={"openai.answers_slowly": 1, "openai.key_accepted": 1, "failing.openai_timeout": 1, "processing.long_in_write": 1, "publishing.as_before": 1},
        excludes=("openai.silent",), mistaken_for=("database-statistics-stale-or-bloated", "openai-stalled"), procedure="troubleshooting/slow_jobs",
    ),
    Cause(
        "openai-stalled", "generate", "OpenAI takes calls and never finishes answering them.",
        FirstAction("Pause OpenAI, so that no worker waits in vain; the calls under way have a total deadline and end by themselves.", 'runbook pause openai --reason "OpenAI does not answer"', "Y", "provider.pause", {"provider": "openai", "reason": "OpenAI does not answer"}, _NO_MORE_CONCURRENCY),
        one_of=(("openai.silent", "failing.openai_timeout", "processing.all_hang_in_write"), ("workers.some_alive", "processing.long_in_write", "failing.openai_timeout", "workers.stand_still", "check.queue.last_success", "paused.openai_timeout")),
        supports={"openai.silent": 2, "workers.some_alive": 1, "processing.long_in_write": 1}, excludes=("openai.refused", "openai.no_route", "openai.name_unresolved", "openai.certificate_refused", "writing.goes_on"),
        explains=("openai-slow", "worker-stuck"), mistaken_for=("worker-stuck", "openai-slow"), procedure=OPENAI_ERRORS,
    ),
    Cause(
        "openai-silent-bad-answers", "data", "OpenAI answers without an error, and what it writes is empty, cut or no article.",
        FirstAction("Pause {provider}: bad articles that are refused cost money each, those that got through must not be published. Look at what went out, and take back what is bad.",
                    'runbook pause {provider} --reason "bad articles"', "P", "provider.pause", {"provider": "{provider}", "reason": "bad articles"}),
        one_of=(("content.stored_bad", "content.many_refused", "content.pages_as_answers"), ("openai.key_accepted", "content.stored_bad", "attempts.some_succeed")), supports={"openai.key_accepted": 1, "content.shorter_than_usual": 1, "content.stored_bad": 1},
        excludes=("openai.another_program",), mistaken_for=("openai-wrong-base-url",), level=2, procedure="emergency/bad_content",
    ),
    Cause(
        "openai-wrong-base-url", "configuration", "What answers at OPENAI_BASE_URL is not OpenAI: a wrong address, or a proxy in between.",
        _look("Correct OPENAI_BASE_URL, or what stands in between.", _DOCTOR, "N"),
        one_of=(("openai.another_program", "failing.openai_wrong_address"), ("failing.openai_wrong_address", "paused.openai_wrong_address", "openai.connects")),
        supports={"openai.another_program": 2, "paused.openai_wrong_address": 1}, excludes=("openai.key_accepted",), mistaken_for=("openai-silent-bad-answers",), level=2, procedure=OPENAI_ERRORS,
    ),
    Cause(
        "openai-content-filtered", "data", "The content filter refuses topics; others are written.",
        FirstAction("Keep what it refuses in quarantine, so that no retry of many takes it along. Reword the topic as a new job.", "runbook changes plan jobs.quarantine -p job_id={job_id} -p 'reason=its topic is refused'", "Y",
                    "jobs.quarantine", {"job_id": "{job_id}", "reason": "the content filter refuses its topic"}),
        needs=("topics.refused_for_filter",), one_of=(("topics.others_fine_filter",), ("openai.key_accepted", "jobs.ended_by_filter")), supports={"jobs.ended_by_filter": 1},
        mistaken_for=("openai-context-too-long",), stands=("topics.refused_again_filter",), of_single_jobs=True, procedure=OPENAI_ERRORS,
    ),
    Cause(
        "openai-context-too-long", "data", "Topics are too long for the model; others are written.",
        FirstAction("Keep the job in quarantine, so that no retry of many takes it along. Shorten its topic as a new job.", "runbook changes plan jobs.quarantine -p job_id={job_id} -p 'reason=its topic is too long'", "Y",
                    "jobs.quarantine", {"job_id": "{job_id}", "reason": "its topic is too long"}),
        needs=("topics.refused_for_length",), one_of=(("topics.others_fine_length",), ("openai.key_accepted", "jobs.ended_by_length")), supports={"jobs.ended_by_length": 1},
        mistaken_for=("openai-content-filtered",), stands=("topics.refused_again_length",), of_single_jobs=True, procedure=OPENAI_ERRORS,
    ),
    # WordPress
    Cause(
        "wordpress-login-revoked", "log in", "WordPress refuses the user and application password.",
        _pause("wordpress", "login is refused", "Do not retry by hand: each try is refused, and the site may lock the user out."),
        one_of=(("wordpress.login_refused", "failing.wordpress_login_failed"), ("failing.wordpress_login_failed", "paused.wordpress_login_failed", "wordpress.rest_answers")),
        supports={"wordpress.login_refused": 3, "wordpress.rest_answers": 1, "paused.wordpress_login_failed": 1}, excludes=("wordpress.logs_in", "wordpress.passwords_off"),
        mistaken_for=("wordpress-permission-lost", "wordpress-rest-off"), procedure=WORDPRESS_ERRORS,
    ),
    Cause(
        "wordpress-permission-lost", "publish", "The WordPress user logs in, and may not publish: its role was lowered.",
        _look("Give the user the role Author or Editor at the site; once this says that it may publish, resume WordPress (runbook resume wordpress).", "runbook doctor", "N"),
        one_of=(("wordpress.may_not_publish", "failing.wordpress_permission_lost"), ("wordpress.logs_in", "paused.wordpress_permission_lost", "wordpress.rest_answers")),
        supports={"wordpress.may_not_publish": 2, "paused.wordpress_permission_lost": 1, "failing.wordpress_permission_lost": 1}, excludes=("wordpress.login_refused",),
        mistaken_for=("wordpress-login-revoked",), level=2, procedure=WORDPRESS_ERRORS,
    ),
    Cause(
        "wordpress-down", "publish", "The site is down or under maintenance.",
        FirstAction("Pause WordPress: writing goes on, and articles are stored.", 'runbook pause wordpress --reason "the site is down" --until 30m', "Y", "provider.pause", {"provider": "wordpress", "reason": "the site is down"}),
        one_of=(("wordpress.server_errors_now", "wordpress.refused", "wordpress.no_route"), ("failing.wordpress_unavailable", "failing.wordpress_rate_limited", "failing.wordpress_unreachable", "failing.wordpress_outcome_unknown",
                "paused.wordpress_unavailable", "paused.wordpress_rate_limited", "paused.wordpress_unreachable", "wordpress.refused", "wordpress.front_page_down", "check.queue.last_success")),
        supports={"wordpress.server_errors_now": 1, "wordpress.front_page_down": 1, "paused.wordpress_unavailable": 1}, excludes=("names.server_silent",), explains=("wordpress-slow-publish",), mistaken_for=("dns-failure",), procedure=WORDPRESS_ERRORS,
    ),
    Cause(
        "wordpress-url-redirects", "configuration", "The site sends requests on to another address: WORDPRESS_URL is not the right one any more.",
        _look("Set WORDPRESS_URL to the address that the site names, then reconcile jobs without a post.", _DOCTOR),
        one_of=(("wordpress.redirects_now", "failing.wordpress_redirected", "jobs.completed_without_post"), ("failing.wordpress_redirected", "paused.wordpress_redirected", "jobs.completed_without_post", "wordpress.connects")),
        supports={"wordpress.redirects_now": 2, "paused.wordpress_redirected": 1}, excludes=("wordpress.rest_answers",), mistaken_for=("wordpress-rest-off",), level=2, procedure=WORDPRESS_ERRORS,
    ),
    Cause(
        "wordpress-category-missing", "draft", "A category that jobs name does not exist at the site.",
        FirstAction("Give its jobs the fall-back category, where one is set (RUNBOOK_FALLBACK_CATEGORY); else make the category again.", "runbook changes plan jobs.use_category -p missing={category}", "Y",
                    "jobs.use_category", {"missing": "{category}"}),
        one_of=(("failing.wordpress_category_missing", "wordpress.categories_absent"), ("jobs.ended_without_category", "failing.wordpress_category_missing"), ("wordpress.categories_absent", "scope.one_category", "wordpress.logs_in")),
        supports={"wordpress.categories_absent": 2, "scope.one_category": 1, "wordpress.logs_in": 1}, mistaken_for=("one-worker-outdated",), procedure=WORDPRESS_ERRORS,
    ),
    Cause(
        "wordpress-rest-off", "publish", "The site is up and its REST API is off or restricted.",
        _look("Switch the REST API on again: permalinks, or a plugin that restricts it.", _DOCTOR, "N"),
        one_of=(("wordpress.rest_absent", "failing.wordpress_rest_off", "failing.wordpress_answer_unreadable"), ("wordpress.rest_absent", "wordpress.plain_permalinks", "paused.wordpress_rest_off"),
                ("failing.wordpress_rest_off", "failing.wordpress_answer_unreadable", "paused.wordpress_rest_off", "wordpress.connects")),
        supports={"wordpress.rest_absent": 2, "paused.wordpress_rest_off": 1, "wordpress.plain_permalinks": 1}, excludes=("wordpress.answers_as_always", "wordpress.redirects_now"), mistaken_for=("wordpress-url-redirects",), level=2, procedure=WORDPRESS_ERRORS,
    ),
    Cause(
        "wordpress-certificate-expired", "connect", "The site's certificate has expired.",
        _look("Renew the certificate, then resume WordPress.", _DOCTOR, "N", never="Do not switch the checking of certificates off."),
        needs=("wordpress.certificate_expired",), one_of=(("wordpress.connects", "failing.wordpress_certificate_invalid", "paused.wordpress_certificate_invalid"),),
        supports={"failing.wordpress_certificate_invalid": 1, "paused.wordpress_certificate_invalid": 1}, excludes=("clocks.this_machine_off",), mistaken_for=("dns-failure", "worker-clock-skewed"), level=2, procedure=WORDPRESS_ERRORS,
    ),
    Cause(
        "wordpress-slow-publish", "draft", "The site takes posts and answers too late: each may exist already.",
        FirstAction("Give the site fewer posts at once (lower the limit); a job looks for its post by itself before it tries again.", "runbook limits set wordpress --concurrency 1", "Y",
                    "limits.lower", {"provider": "wordpress", "concurrency": 1}, "Do not retry by hand before the look-up: it would make a second post."),
        one_of=(("publishing.answers_late",), ("failing.wordpress_outcome_unknown", "wordpress.answers_slowly"), ("wordpress.logs_in", "wordpress.rest_answers", "wordpress.silent", "wordpress.answers_slowly")),
        supports={"publishing.slower_than_before": 1, "wordpress.logs_in": 1, "failing.wordpress_outcome_unknown": 1, "processing.long_in_publish": 1, "wordpress.answers_slowly": 1},
        excludes=("wordpress.server_errors_now", "wordpress.refused"), mistaken_for=("openai-slow", "wordpress-down"), procedure=WORDPRESS_ERRORS,
    ),
    # workers, scheduler, network, clocks, configuration, data
    Cause(
        "worker-killed", "workers", "A worker was killed in the middle of its jobs.",
        FirstAction("Let a running worker take its jobs back (it does so by itself when the lease ends), and start another worker if none runs.", "runbook function sweeper --data '{\"dry_run\": true}'", "Y", "jobs.sweep", {"worker": "{worker}"}, "Nothing is lost: do not set jobs back by hand before their lease ends."),
        needs=("workers.vanished", "workers.vanished_with_jobs"), supports={"workers.process_gone": 2, "jobs.leases_expired": 1, "workers.attempts_lost": 1},
        excludes=("workers.process_there", "workers.silent_session_open"), explains=("workers-stopped",), mistaken_for=("worker-stuck",), stands=("workers.just_vanished", "jobs.leases_expired", "workers.jobs_still_held", "workers.none_alive_and_wanted"), procedure="emergency/stuck_jobs",
    ),
    Cause(
        "worker-stuck", "workers", "A worker is there, and does not get on.",
        FirstAction("Drain it, then restart it. A process that is stopped (state T) hears nothing: kill -CONT wakes it, kill -9 ends it. Its jobs are taken back when their lease ends, and nothing that it does later counts.", "runbook workers drain {worker}", "P", "workers.drain", {"worker": "{worker}"}, _NO_SWEEPER),
        one_of=(("workers.stand_still", "workers.silent_session_open", "workers.process_frozen", "workers.process_does_nothing"), ("workers.stand_still", "workers.vanished", "workers.process_frozen"), ("openai.not_silent", "workers.process_there", "workers.some_alive")),
        supports={"workers.process_there": 2, "workers.process_does_nothing": 2, "workers.vanished_with_jobs": 1, "workers.silent_session_open": 1, "processing.long_in_write": 1, "openai.key_accepted": 1, "wordpress.logs_in": 1},
        excludes=("openai.silent", "wordpress.silent", "workers.sessions_wait_for_a_lock", "workers.try_in_vain", "workers.unacknowledged_data", "workers.polls_in_vain"), explains=("worker-killed", "workers-stopped", "openai-slow"), mistaken_for=("worker-killed", "openai-stalled"), level=2, procedure="emergency/stuck_jobs",
    ),
    Cause(
        "worker-crash-loop", "workers", "Workers start and end at once, again and again.",
        _look("Take the last release back; its log says why it ends.", "runbook workers"),
        one_of=(("workers.die_young", "workers.processes_come_and_go"), ("workers.young_finish_nothing", "workers.none_alive"), ("queue.jobs_due", "workers.none_alive", "workers.attempts_lost", "check.queue.last_success")),
        supports={"workers.attempts_not_of_one_job": 1, "queue.jobs_due": 1, "workers.young_finish_nothing": 1},
        excludes=("jobs.one_job_loses_workers",), explains=("worker-killed", "workers-stopped"), mistaken_for=("job-poisonous",), level=2, procedure="emergency/stuck_jobs",
    ),
    Cause(
        "job-poisonous", "data", "One job makes each worker that takes it vanish.",
        FirstAction("Put the job into quarantine (it goes there by itself after some losses); look at its topic before retrying it.", "runbook changes plan jobs.quarantine -p job_id={job_id} -p 'reason=workers vanish on it'", "Y",
                    "jobs.quarantine", {"job_id": "{job_id}", "reason": "workers vanish on it"}, "Do not retry it: it would take the next worker with it."),
        needs=("jobs.one_job_loses_workers", "jobs.others_keep_workers"), one_of=(("jobs.lost_again_and_again", "workers.vanished", "workers.die_young"),), supports={"jobs.lost_again_and_again": 2, "workers.vanished": 1},
        explains=("worker-killed", "worker-crash-loop", "worker-stuck", "workers-stopped"), mistaken_for=("worker-crash-loop",), level=2, procedure="emergency/stuck_jobs",
    ),
    Cause(
        "sweeper-too-eager", "claim", "Jobs are taken from workers that still work on them, and done twice.",
        _look("Make the lease longer than a job takes, and stop whatever sweeps besides the workers.", "runbook function sweeper --data '{\"dry_run\": true}'", never=_NO_SWEEPER),
        one_of=(("jobs.given_out_twice", "workers.lost_while_alive", "jobs.attempts_without_a_row"), ("workers.lost_while_alive", "workers.attempts_lost", "attempts.some_succeed", "workers.some_alive")),
        supports={"workers.lost_while_alive": 2, "jobs.attempts_without_a_row": 2}, excludes=("database.rows_hidden",),
        explains=("worker-killed",), mistaken_for=("worker-killed", "worker-clock-skewed"), level=2, procedure="emergency/stuck_jobs",
    ),
    Cause(
        "workers-stopped", "workers", "No worker runs, and jobs wait.",
        _look("Start the workers; where somebody stopped them on purpose, ask first.", "python worker.py", never="The sweeper does not help: there is nobody to take the jobs."),
        needs=("workers.none_alive", "queue.jobs_due"), one_of=(("workers.stopped_orderly", "workers.none_for_long", "workers.vanished"),), supports={"queue.waits_long": 1, "workers.stopped_orderly": 1, "workers.none_for_long": 1},
        excludes=("database.table_lock_held", "workers.process_there", "workers.processes_come_and_go", "settings.schema_without_tables", "database.rows_hidden"), mistaken_for=("database-rows-locked-by-idle-transaction",), procedure="emergency/stuck_jobs",
    ),
    Cause(
        "scheduler-not-running", "scheduler", "No scheduler runs: what is due is not started.",
        _look("Start the scheduler again; each schedule's own rule says what is caught up.", "runbook schedule start", "Y"),
        one_of=(("scheduler.silent", "scheduler.process_gone", "scheduler.runs_absent"), ("scheduler.runs_absent", "database.answers")), supports={"scheduler.runs_absent": 1, "scheduler.process_gone": 1}, excludes=("scheduler.at_a_run_before",), mistaken_for=("report-late-behind-another",), procedure="daily/health_check",
    ),
    Cause(
        "dns-failure", "resolve", "Names that are needed cannot be resolved.",
        _look("Tell whoever runs the network; where one name alone fails, look at its spelling in the settings first. Workers wait and lose nothing.", _DOCTOR, "N"),
        one_of=(("names.several_unresolved", "names.server_silent", "failing.names"),
                ("openai.name_unresolved", "wordpress.name_unresolved", "database.name_unresolved", "paused.openai_unreachable", "paused.wordpress_unreachable")),
        supports={"names.server_silent": 2, "failing.openai_unreachable": 1, "failing.wordpress_unreachable": 1}, explains=("database-down", "openai-overloaded", "wordpress-down", "network-flapping"),
        mistaken_for=("openai-key-malformed", "database-down"), level=2,
    ),
    Cause(
        "network-half-open", "connect", "Open connections hang, new ones work: something in between lost them.",
        _look("Restart what holds the dead connections; pools open new ones.", "runbook workers", "Y"),
        one_of=(("workers.unacknowledged_data", "workers.polls_in_vain", "links.reused_connections_hang"), ("database.opens_sessions", "openai.key_accepted", "wordpress.logs_in")),
        supports={"workers.vanished": 1, "workers.process_alive": 1, "workers.silent_session_open": 1},
        excludes=("workers.process_frozen", "workers.sessions_wait_for_a_lock", "openai.silent", "wordpress.silent"), explains=("openai-slow", "openai-stalled", "wordpress-slow-publish"),
        mistaken_for=("database-hung", "openai-stalled"), level=2,
    ),
    Cause(
        "network-flapping", "connect", "Connections break in bursts, to several services at once.",
        _look("Back off and tell whoever runs the network.", _DOCTOR), needs=("attempts.some_succeed",), one_of=(("failing.both_unreachable", "links.several_reset"), ("openai.connects", "openai.refused", "wordpress.refused", "links.several_reset"), ("wordpress.connects", "openai.refused", "wordpress.refused", "links.several_reset")),
        excludes=("names.several_unresolved",), explains=("wordpress-slow-publish", "wordpress-down", "openai-stalled"), mistaken_for=("openai-overloaded", "database-crash-recovery-loop"), level=2,
    ),
    Cause(
        "worker-clock-skewed", "clocks", "A worker's clock is wrong.",
        FirstAction("Drain that worker and correct its clock.", "runbook workers drain {worker}", "P", "workers.drain", {"worker": "{worker}"}),
        one_of=(("clocks.worker_off", "clocks.negative_durations"),), supports={"clocks.other_workers_right": 1, "clocks.negative_durations": 1, "clocks.worker_off": 2, "clocks.database_agrees": 1},
        excludes=("clocks.database_is_the_odd_one",), explains=("sweeper-too-eager",),
        mistaken_for=("sweeper-too-eager", "wordpress-certificate-expired"), level=2,
    ),
    Cause(
        "concurrency-too-high", "configuration", "Far more jobs at once than the services take.",
        FirstAction("Take the concurrency back to what it was.", "runbook limits set openai --concurrency 4", "P", "limits.lower", {"provider": "openai", "concurrency": 4}, _NO_MORE_CONCURRENCY),
        needs=("workers.concurrency_high",), one_of=(("failing.openai_rate_limited", "database.connections_full_server", "database.login_server", "database.connections_full_role", "failing.wordpress_rate_limited"),),
        supports={"workers.concurrency_raised": 2, "jobs.many_in_flight": 1}, explains=("openai-rate-limited", "database-connections-exhausted", "database-role-or-pooler-limit"),
        mistaken_for=("database-connections-exhausted", "openai-rate-limited"), level=2,
    ),
    Cause(
        "one-worker-outdated", "workers", "One worker has old settings or an old version, and fails alone.",
        FirstAction("Drain that worker; the others go on.", "runbook workers drain {worker}", "Y", "workers.drain", {"worker": "{worker}"}),
        one_of=(("scope.one_worker", "scope.one_worker_is_refused"), ("workers.differ", "workers.some_alive", "openai.key_accepted", "wordpress.logs_in"),), supports={"workers.odd_one_fails": 2, "workers.differ": 1, "attempts.some_succeed": 1},
        excludes=("clocks.worker_off", "openai.quota_refused_now", "wordpress.server_errors_now", "openai.another_program"),
        explains=("openai-key-invalid", "wordpress-login-revoked", "openai-wrong-base-url", "openai-quota-exhausted", "wordpress-category-missing", "wordpress-down", "openai-overloaded", "wordpress-permission-lost", "wordpress-url-redirects", "wordpress-rest-off", "network-flapping", "openai-rate-limited"),
        mistaken_for=("network-flapping", "database-password-wrong"), level=2,
    ),
    Cause(
        "producer-stopped", "data", "No jobs come in any more.",
        _look("Ask whoever adds jobs, and look at the log of their last run.", "runbook jobs list", "N"),
        needs=("producer.queue_empty",), one_of=(("producer.less_than_usual", "producer.silent_for_long"),), supports={"producer.what_came_succeeded": 1, "producer.silent_for_long": 1}, excludes=("producer.same_gap_before", "workers.vanished_with_jobs", "database.rows_hidden", "settings.schema_without_tables"), mistaken_for=("quiet-day",), procedure="daily/health_check",
    ),
)  # fmt: skip
BY_ID: Mapping[str, Cause] = {cause.id: cause for cause in CAUSES}
# What a probe from here shows by itself, or a process's state, follows from no other cause.
SHOWN_BY_ITSELF: Mapping[str, str] = {
    "openai-key-invalid": "openai.key_refused", "openai-quota-exhausted": "openai.quota_refused_now",
    "worker-stuck": "workers.process_frozen", "openai-wrong-base-url": "openai.another_program", "openai-overloaded": "openai.server_errors_now",
    "wordpress-login-revoked": "wordpress.login_refused", "wordpress-permission-lost": "wordpress.may_not_publish",
    "wordpress-down": "wordpress.server_errors_now", "wordpress-url-redirects": "wordpress.redirects_now", "wordpress-rest-off": "wordpress.rest_absent",
}  # fmt: skip
# Of the catalogue, what leaves no evidence that could be told apart from here, and why.
NOT_COVERED: Mapping[str, str] = {
    "network-half-open": "named only where the worker runs on this host: its process must be seen alive beside a session that hangs.",
    "openai-key-malformed": "only as the settings of this process refuse the key; a worker refuses to start with one.",
}
