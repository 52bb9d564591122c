"""What an engineer is told in a practice, by the cause that is staged: the alert, who repaired it, what is left.

One card a cause, so that each way of staging it has one. The alert is worded as our own checks word theirs and
says what is noticed from outside; it is told where no check of the staged system raises one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

_NOTHING_DONE = (
    "CRITICAL queue.last_success: jobs wait, and nothing has been published for a while."
)
_LESS_DONE = (
    "WARNING queue.oldest_pending: jobs wait longer than usual, and fewer than usual are done."
)
_SOME_FAIL = "WARNING failures.now: more jobs fail than usual; others are published."
_HELD_UP = "CRITICAL queue.stuck: some jobs have stayed in processing, and do not get on."
_NO_SIGN = "CRITICAL workers.alive: jobs are due, and there is no sign of a worker that takes them."
_A_CALL = "An editor calls: is something wrong with the articles today?"
_DATABASE_ERRORS, _OPENAI_ERRORS, _WORDPRESS_ERRORS = (
    "troubleshooting/database_errors", "troubleshooting/openai_errors", "troubleshooting/wordpress_errors",
)  # fmt: skip
_STUCK_JOBS, _SYSTEM_DOWN = "emergency/stuck_jobs", "emergency/system_down"


@dataclass(frozen=True)
class Card:
    """What is told of one cause. `repaired` is what somebody else did once it was named; `then` is left to do.

    `may_end` are error classes in which jobs rightly stay ended: such a job is not lost.
    """

    alert: str
    repaired: str
    then: tuple[str, ...] = ("jobs list",)
    procedure: str = _SYSTEM_DOWN
    may_end: tuple[str, ...] = ()


_RESUME_OPENAI, _RESUME_WORDPRESS, _RESUME_ALL = (
    ("resume openai",), ("resume wordpress",), ("resume all",),
)  # fmt: skip

CARDS: Mapping[str, Card] = {
    # the database
    "database-down": Card(_NOTHING_DONE, "You told whoever runs the server. They have started it again.", ("doctor",), _DATABASE_ERRORS),
    "database-hung": Card(_NOTHING_DONE, "You told whoever runs the server. What stood still in front of it was restarted.", ("doctor",), _DATABASE_ERRORS),
    "database-password-wrong": Card(_NOTHING_DONE, "You asked who rotates passwords. The right one is in DATABASE_URL now, and the workers were restarted one by one.", ("doctor",), _DATABASE_ERRORS),
    "database-connections-exhausted": Card(_NOTHING_DONE, "You found the owner of those sessions. They have closed them.", ("doctor",), _DATABASE_ERRORS),
    "database-role-or-pooler-limit": Card(_LESS_DONE, "You asked whoever set it. They have put back what the workers need.", ("doctor",), _DATABASE_ERRORS),
    "database-table-locked": Card(_NOTHING_DONE, "You found the person behind that session. They have ended it.", ("jobs list",), _DATABASE_ERRORS),
    "database-index-missing": Card(_LESS_DONE, "You had it made again, without stopping anybody.", ("jobs list",), "monthly/database_optimization"),
    "database-statistics-stale-or-bloated": Card(_LESS_DONE, "You found who held the old transaction. It is ended, and the tables were vacuumed.", ("jobs list",), "monthly/database_optimization"),
    "database-rows-locked-by-idle-transaction": Card(_NOTHING_DONE, "You found the person behind that session. They had forgotten it, and have ended it.", ("jobs list",), _DATABASE_ERRORS),
    "database-grant-revoked": Card(_NOTHING_DONE, "You told the tables' owner. They have granted it again.", ("doctor",), _DATABASE_ERRORS),
    "database-read-only": Card(_NOTHING_DONE, "You told whoever runs the server. It takes writes again.", ("doctor",), _DATABASE_ERRORS),
    "database-disk-full": Card(_NOTHING_DONE, "You told whoever runs the server. There is room again.", ("doctor",), _DATABASE_ERRORS),
    "database-deadlocks": Card(_SOME_FAIL, "You showed the two statements to whoever wrote them. The other program is stopped until it is mended.", ("jobs list",), _DATABASE_ERRORS),
    "database-schema-drift": Card(_NOTHING_DONE, "You found who changed the tables. They have taken it back.", ("db status",), _DATABASE_ERRORS),
    "database-crash-recovery-loop": Card(_SOME_FAIL, "You found the program that did it. It is stopped.", ("doctor",), _DATABASE_ERRORS),
    # OpenAI
    "openai-quota-exhausted": Card(_NOTHING_DONE, "You told whoever pays. They have added credit to the account.", _RESUME_OPENAI, _OPENAI_ERRORS),
    "openai-rate-limited": Card(_LESS_DONE, "You asked for another tier, and the account has it now.", _RESUME_OPENAI, _OPENAI_ERRORS),
    "openai-key-invalid": Card(_NOTHING_DONE, "You told the account's owner. The key that they had switched off works again.", _RESUME_OPENAI, _OPENAI_ERRORS),
    "openai-key-malformed": Card(_NOTHING_DONE, "The key stands in its setting as it should, and the worker was restarted.", _RESUME_OPENAI, _OPENAI_ERRORS),
    "openai-overloaded": Card(_SOME_FAIL, "You watched their status page. It says: resolved.", _RESUME_OPENAI, _OPENAI_ERRORS),
    "openai-slow": Card(_LESS_DONE, "You watched their status page. It says: resolved.", ("jobs list",), "troubleshooting/slow_jobs"),
    "openai-stalled": Card(_LESS_DONE, "You watched their status page. It says: resolved.", _RESUME_OPENAI, _OPENAI_ERRORS),
    "openai-silent-bad-answers": Card(_A_CALL, "You reported it with examples. The model was put back to its version of last week.", _RESUME_ALL, "emergency/bad_content"),
    "openai-wrong-base-url": Card(_NOTHING_DONE, "You found what stood in between. It is gone.", _RESUME_OPENAI, _OPENAI_ERRORS),
    "openai-content-filtered": Card(_SOME_FAIL, "You asked the editors. They will send that topic in other words.", ("jobs list --status error",), _OPENAI_ERRORS, ("openai_content_filtered",)),
    "openai-context-too-long": Card(_SOME_FAIL, "You asked the editors. They will send that topic in fewer words.", ("jobs list --status error",), _OPENAI_ERRORS, ("openai_context_too_long", "topic_too_long")),
    # WordPress
    "wordpress-login-revoked": Card("CRITICAL queue.last_success: jobs wait, articles are written and paid for, and nothing is published.",
        "You called the site's editor. They had revoked the application password by mistake, and have put it back.", _RESUME_WORDPRESS, _WORDPRESS_ERRORS),
    "wordpress-permission-lost": Card(_NOTHING_DONE, "You called the site's editor. The user has its role again.", _RESUME_WORDPRESS, _WORDPRESS_ERRORS),
    "wordpress-down": Card(_NOTHING_DONE, "You called the host of the site. It is up again.", _RESUME_WORDPRESS, _WORDPRESS_ERRORS),
    "wordpress-url-redirects": Card(_NOTHING_DONE, "You told whoever moved it. WORDPRESS_URL is right again.", _RESUME_WORDPRESS, _WORDPRESS_ERRORS),
    "wordpress-category-missing": Card(_SOME_FAIL, "You called the site's editor. They had tidied up, and have made it again.",
        ("jobs retry --where class=wordpress_category_missing --since 2h --execute",), _WORDPRESS_ERRORS),
    "wordpress-rest-off": Card(_NOTHING_DONE, "You called the site's editor. They have switched off again what they had tried out.", _RESUME_WORDPRESS, _WORDPRESS_ERRORS),
    "wordpress-certificate-expired": Card(_NOTHING_DONE, "You called the host of the site. It is renewed.", _RESUME_WORDPRESS, _WORDPRESS_ERRORS),
    "wordpress-slow-publish": Card(_LESS_DONE, "You called the host of the site. It is as quick as before.", _RESUME_WORDPRESS, _WORDPRESS_ERRORS),
    # those who carry the jobs
    "worker-killed": Card(_HELD_UP, "You had the host looked at: out of memory. It has been given more, and a worker was started there.", ("workers",), _STUCK_JOBS),
    "worker-stuck": Card(_HELD_UP, "It was ended and started again.", ("workers",), _STUCK_JOBS),
    "worker-crash-loop": Card(_NOTHING_DONE, "The last release was taken back, and a worker was started.", ("workers",), _STUCK_JOBS),
    "job-poisonous": Card(_SOME_FAIL, "The topic was taken out of the list that it came from.", ("jobs list --status error",), _STUCK_JOBS, ("quarantined",)),
    "sweeper-too-eager": Card(_LESS_DONE, "You found whoever runs it. It is stopped.", ("jobs list",), _STUCK_JOBS),
    "workers-stopped": Card(_NO_SIGN, "A worker was started.", ("workers",), _STUCK_JOBS),
    "scheduler-not-running": Card("WARNING: this morning's report has not come.", "It was started again.", ("schedule list",), "daily/health_check"),
    "dns-failure": Card(_NOTHING_DONE, "You told whoever runs the network. It is repaired.", _RESUME_ALL),
    "network-half-open": Card(_HELD_UP, "What held them was restarted.", ("workers",)),
    "network-flapping": Card(_SOME_FAIL, "You told whoever runs the network. It is repaired.", _RESUME_ALL),
    "worker-clock-skewed": Card(_SOME_FAIL, "That host was taken out and put right.", ("workers",)),
    "concurrency-too-high": Card(_SOME_FAIL, "It was set back to what it was, and the worker was restarted.", _RESUME_ALL),
    "one-worker-outdated": Card(_SOME_FAIL, "That one was replaced by one like the others.", _RESUME_ALL),
    "producer-stopped": Card(_A_CALL, "You asked upstream. Their job had been switched off, and runs again.", ("jobs list",), "daily/health_check"),
}  # fmt: skip

# Where no rule knows the cause, and where there is none.
UNKNOWN_CARD = Card(
    _NOTHING_DONE, "You handed it over with what you had found out, and those who know that part have seen to it.", _RESUME_ALL,
)  # fmt: skip
HEALTHY_CARD = Card(_A_CALL, "", ())


def card_for(causes: tuple[str, ...]) -> Card:
    """The card of a cause, or of several at once: the first one's alert, and the rest of all."""
    cards = [CARDS[cause] for cause in causes]
    first = cards[0]
    # What both leave to do is done once.
    then = tuple(dict.fromkeys(command for card in cards for command in card.then))
    return replace(
        first, repaired=" ".join(card.repaired for card in cards), then=then,
        may_end=tuple(name for card in cards for name in card.may_end),
    )  # fmt: skip
