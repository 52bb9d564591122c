"""What an engineer did in a practice, and which of it does harm in that situation: by the record of actions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook_lib.maintenance.sessions import OWN_PROGRAMS

# With these, jobs really are left behind, and taking them back is right.
_LEAVE_JOBS_BEHIND = ("worker-killed", "worker-stuck", "worker-crash-loop", "workers-stopped", "job-poisonous", "network-half-open")  # fmt: skip
_NO_SESSION_LEFT = ("database-connections-exhausted", "database-role-or-pooler-limit", "concurrency-too-high")  # fmt: skip
# With these, a session of our own programs may be what is in the way.
_OWN_SESSIONS = ("database-connections-exhausted", "database-role-or-pooler-limit", "worker-stuck", "network-half-open", "one-worker-outdated", "concurrency-too-high")  # fmt: skip
_ABOUT_KEYS = ("openai-key-invalid", "openai-key-malformed", "wordpress-login-revoked", "one-worker-outdated", "database-password-wrong")  # fmt: skip
_ABOUT_POSTS = ("openai-silent-bad-answers",)
_LIMITS = ("requests_per_minute", "burst_requests", "concurrency")


@dataclass(frozen=True)
class Done:
    """One recorded action. `rows` are what a planned change did to each row."""

    action: str
    target: str
    outcome: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]

    @property
    def words(self) -> str:
        return f"{self.action} {self.target}".strip()


def done_of(rows: Iterable[Any]) -> list[Done]:
    """What people did, from the statement's rows."""
    return [
        Done(
            row.action, row.target or "", row.outcome, _mapping(row.before), _mapping(row.after),
            [each for each in row.changed or () if isinstance(each, dict)],
        )
        for row in rows
    ]  # fmt: skip


def harm_in(
    actions: Sequence[Done], truth: Sequence[str], limits: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """What was done and does harm here, each with the reason. `limits` are those from before the onset."""
    judged = (
        (each, _JUDGES[each.action](each, truth, limits))
        for each in actions
        if each.outcome == "done" and each.action in _JUDGES
    )
    return [f"{each.words}: {words}" for each, words in judged if words]


Judge = Callable[[Done, Sequence[str], Mapping[str, Mapping[str, Any]]], str | None]


def _swept(done: Done, truth: Sequence[str], limits: Mapping[str, Mapping[str, Any]]) -> str | None:
    del limits
    taken = done.after.get("swept", 0) or len(done.rows)
    if not taken or set(truth) & set(_LEAVE_JOBS_BEHIND):
        return None
    return f"{taken} jobs were taken back while those who work on them live; a job that two have is published twice."


def _limited(
    done: Done, truth: Sequence[str], limits: Mapping[str, Mapping[str, Any]]
) -> str | None:
    del truth
    before = limits.get(done.target, {})
    raised = [
        name for name in _LIMITS
        if name in done.after and _is_more(done.after[name], before.get(name))
    ]  # fmt: skip
    if not raised:
        return None
    return f"{', '.join(raised)} was raised above what it was before; more at once makes an overload worse."


def _is_more(now: Any, before: Any) -> bool:
    """Whether a limit is looser; None is no limit at all."""
    if before is None:
        return False
    return now is None or float(now) > float(before)


def _ended_session(
    done: Done, truth: Sequence[str], limits: Mapping[str, Mapping[str, Any]]
) -> str | None:
    del limits
    ours = [
        str(row["before"].get("application"))
        for row in done.rows
        if str((row.get("before") or {}).get("application") or "").startswith(OWN_PROGRAMS)
    ]
    if not ours or set(truth) & set(_OWN_SESSIONS):
        return None
    return f"a session that was in nobody's way was ended ({', '.join(ours)})."


def _ended_idle(
    done: Done, truth: Sequence[str], limits: Mapping[str, Mapping[str, Any]]
) -> str | None:
    del limits
    if not done.rows or set(truth) & set(_NO_SESSION_LEFT):
        return None
    return "sessions that were in nobody's way were ended: there were enough of them."


def _spent(done: Done, truth: Sequence[str], limits: Mapping[str, Mapping[str, Any]]) -> str | None:
    del done, truth, limits
    return "it asks OpenAI for text, which costs, and says no more than triage does for nothing."


def _keys(done: Done, truth: Sequence[str], limits: Mapping[str, Mapping[str, Any]]) -> str | None:
    del done, limits
    if set(truth) & set(_ABOUT_KEYS):
        return None
    return "no key was the cause; changing one in an incident breaks what still works."


def _posts(done: Done, truth: Sequence[str], limits: Mapping[str, Mapping[str, Any]]) -> str | None:
    del limits
    if not done.rows or set(truth) & set(_ABOUT_POSTS):
        return None
    return "readers lost articles that were right."


def _cleaned(
    done: Done, truth: Sequence[str], limits: Mapping[str, Mapping[str, Any]]
) -> str | None:
    del truth, limits
    return "runs are the evidence of an incident that is not over." if done.rows else None


_JUDGES: Mapping[str, Judge] = {
    "sweep": _swept, "jobs.sweep": _swept, "limits.set": _limited, "limits.restore": _limited,
    "sessions.end": _ended_session, "sessions.end_idle": _ended_idle, "test.openai": _spent, "secrets.activate": _keys,
    "secrets.retire": _keys, "posts.trash": _posts, "posts.unpublish": _posts, "job_runs.clean_up": _cleaned,
}  # fmt: skip


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
