"""States in which a verdict must be given all the same, and dependencies that take everything and say nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from runbook_lib.database.statements import load
from runbook_lib.rehearsal.scene import Scene
from runbook_lib.sandbox.proxy import NetworkProxy

_SQL = load("rehearsal_database")
State = Callable[[Scene], AbstractContextManager[None]]


@contextmanager
def _through(url: str, fault: str) -> Iterator[str]:
    """The address of a proxy in front of what is at `url`, with a fault."""
    address = urlsplit(url)
    with NetworkProxy(address.hostname or "", address.port or 0) as proxy:
        proxy.set_fault(fault)
        place = f"{address.netloc.rpartition('@')[0]}@" if "@" in address.netloc else ""
        yield urlunsplit(address._replace(netloc=f"{place}127.0.0.1:{proxy.port}"))


def _database(fault: str) -> State:
    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        with scene.working(), _through(scene.database.url, fault) as url:
            scene.looking = scene.looking.model_copy(update={"database_url": SecretStr(url)})
            yield

    return state


def _openai(fault: str) -> State:
    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        with _through(str(scene.settings.openai_base_url), fault) as url:
            scene.move(openai_base_url=url)
            with scene.working():
                scene.add(3)
                yield

    return state


def _wordpress(fault: str) -> State:
    @contextmanager
    def state(scene: Scene) -> Iterator[None]:
        with _through(str(scene.settings.wordpress_url), fault) as url:
            scene.move(wordpress_url=url)
            with scene.working():
                scene.add(3)
                yield

    return state


@contextmanager
def _everything(scene: Scene) -> Iterator[None]:
    with (
        _database("black_hole")(scene),
        _openai("black_hole")(scene),
        _wordpress("black_hole")(scene),
    ):
        yield


@contextmanager
def _database_down(scene: Scene) -> Iterator[None]:
    nobody = SecretStr("postgresql://nobody:none@127.0.0.1:1/none")
    scene.looking = scene.looking.model_copy(update={"database_url": nobody})
    yield


@contextmanager
def _read_only(scene: Scene) -> Iterator[None]:
    scene.execute(_SQL["read_only_database"])
    yield


@contextmanager
def _no_attempts(scene: Scene) -> Iterator[None]:
    """Jobs wait, and not one attempt was ever made."""
    with scene.working():
        yield


@contextmanager
def _no_tables(scene: Scene) -> Iterator[None]:
    url = urlunsplit(urlsplit(scene.database.url)._replace(path="/postgres"))
    scene.looking = scene.looking.model_copy(update={"database_url": SecretStr(url)})
    yield


@contextmanager
def _clock_wrong(scene: Scene) -> Iterator[None]:
    """The clock of whoever looks is hours off: told by the database's own."""
    scene.past_worker("looker", clock_offset_seconds=-7200.0 if datetime.now(UTC).second % 2 else 7200.0)  # fmt: skip
    with scene.working():
        yield


# With one dependency black-holed; the last with all of them.
BLACK_HOLES: Mapping[str, State] = {
    "database-black-holed": _database("black_hole"),
    "openai-black-holed": _openai("black_hole"),
    "wordpress-black-holed": _wordpress("black_hole"),
    "all-black-holed": _everything,
}
BROKEN: Mapping[str, State] = {
    "database-down": _database_down,
    "database-read-only": _read_only,
    "database-stalled": _database("stall"),
    "database-drips": _database("drip"),
    "openai-drips": _openai("drip"),
    "job-runs-empty": _no_attempts,
    "no-tables": _no_tables,
    "clock-wrong": _clock_wrong,
}
