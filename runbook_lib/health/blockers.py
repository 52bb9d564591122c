"""Who waits for whom: the tree of sessions that wait for locks, with the root that holds up all others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

PREPARED_TRANSACTION = 0


@dataclass(frozen=True)
class Session:
    """One session of the tree. `blocked_by` is empty for one that waits for nobody."""

    pid: int
    blocked_by: tuple[int, ...] = ()
    waiting_seconds: float | None = None
    relation: str | None = None
    wanted_lock: str | None = None
    role: str | None = None
    application: str | None = None
    state: str | None = None
    transaction_seconds: float | None = None
    query: str | None = None
    hidden: bool = False

    @property
    def title(self) -> str:
        if self.pid == PREPARED_TRANSACTION:
            return "a prepared transaction (see database.prepared_transactions)"
        who = f"process {self.pid} ({self.application or 'no name'}, {self.role or 'unknown role'})"
        return f"{who}, {self.state}" if self.state else who


@dataclass(frozen=True)
class Node:
    """A session with those that wait for it, directly or behind another."""

    session: Session
    waiters: list[Node] = field(default_factory=list)

    def count(self) -> int:
        """How many wait behind it."""
        return sum(1 + waiter.count() for waiter in self.waiters)

    def lines(self, depth: int = 0) -> list[str]:
        """The tree for people, one session a line."""
        session, behind = self.session, self.count()
        words = "  " * depth + session.title
        if session.waiting_seconds is not None:
            what = f" for {session.wanted_lock}" if session.wanted_lock else ""
            where = f" on {session.relation}" if session.relation else ""
            words += f", waits {session.waiting_seconds:.0f} s{what}{where}"
        elif session.transaction_seconds is not None:
            words += f", in a transaction for {session.transaction_seconds:.0f} s"
        words += f", {behind} waiting" if behind else ""
        words += f": {session.query}" if session.query and not session.hidden else ""
        return [words, *(line for waiter in self.waiters for line in waiter.lines(depth + 1))]

    def as_dictionary(self) -> dict[str, Any]:
        session = self.session
        return {
            "pid": session.pid,
            "role": session.role,
            "application": session.application,
            "state": session.state,
            "waiting_seconds": session.waiting_seconds,
            "transaction_seconds": session.transaction_seconds,
            "relation": session.relation,
            "wanted_lock": session.wanted_lock,
            "query": None if session.hidden else session.query,
            "waiting_behind": self.count(),
            "waiters": [waiter.as_dictionary() for waiter in self.waiters],
        }


def trees(sessions: Iterable[Session]) -> list[Node]:
    """The trees, each under the session that waits for nobody; the one with the most waiters first.

    A session that waits for several stands under the one nearest to a root. Sessions that wait for each
    other in a circle (a deadlock that the server has not ended yet) hang under the longest waiting.
    """
    known = {session.pid: session for session in sessions}
    for pid in {each for session in known.values() for each in session.blocked_by} - known.keys():
        known[pid] = Session(pid)
    blocked = {session.pid for session in known.values() if session.blocked_by}
    roots = [Node(session) for pid, session in known.items() if pid not in blocked]
    roots = [node for node in roots if _waiters_of(node.session.pid, known.values())]
    placed = {node.session.pid for node in roots}
    _place(roots, known, placed)
    while left := [known[pid] for pid in blocked - placed]:
        first = Node(max(left, key=lambda each: (each.waiting_seconds or 0, each.pid)))
        roots.append(first)
        placed.add(first.session.pid)
        _place([first], known, placed)
    return sorted(roots, key=lambda node: (-node.count(), node.session.pid))


def _place(level: Sequence[Node], known: dict[int, Session], placed: set[int]) -> None:
    """Hangs everybody under the first whom he is found to wait for, level by level."""
    while level:
        below: list[Node] = []
        for node in level:
            for waiter in _waiters_of(node.session.pid, known.values()):
                if waiter.pid not in placed:
                    placed.add(waiter.pid)
                    node.waiters.append(Node(waiter))
            below += node.waiters
        level = below


def _waiters_of(pid: int, sessions: Iterable[Session]) -> list[Session]:
    return [session for session in sessions if pid in session.blocked_by]
