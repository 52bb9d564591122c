"""The console for tests: real HTTP on a thread of the test's own process, over a database of the module's."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from runbook_lib.credentials.console_tokens import Scope, issue_login
from runbook_lib.database import Database
from runbook_lib.settings import Settings

if TYPE_CHECKING:
    from conftest import Server

    from runbook_lib.console.house import House

TIMEOUT_SECONDS = 60


@dataclass
class Browser:
    """Somebody who is signed in: a cookie, and the token that the forms of their pages carry."""

    url: str
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str, **options: Any) -> requests.Response:
        headers = {"Accept": "text/html", **options.pop("headers", {})}
        return self.session.get(
            self.url + path, headers=headers, timeout=TIMEOUT_SECONDS, **options
        )

    def send(self, path: str, fields: dict[str, Any], **options: Any) -> requests.Response:
        """Fills in a form of a page; follows on to the page that says what was done."""
        headers = {"Accept": "text/html", "Origin": self.url, **options.pop("headers", {})}
        return self.session.post(
            self.url + path, data={"form_token": self.form_token(), **fields}, headers=headers,
            timeout=TIMEOUT_SECONDS, **options,
        )  # fmt: skip

    def form_token(self) -> str:
        found = re.search(r'name="form_token" value="(\w*)"', self.get("/access").text)
        return found[1] if found else ""


@dataclass(frozen=True)
class RunningConsole:
    """Where the console is, and how to come in."""

    url: str
    house: House
    database: Database | None

    def get(self, path: str, token: str | None = "", **options: Any) -> requests.Response:
        """A request by a program: with the read token, another one, or None."""
        return self.request("GET", path, token, **options)

    def request(
        self, method: str, path: str, token: str | None = "", **options: Any
    ) -> requests.Response:
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.house.tokens.read}"
        return requests.request(
            method, self.url + path, headers=headers, allow_redirects=False,
            timeout=TIMEOUT_SECONDS, **options,
        )  # fmt: skip

    def browser(self, actor: str = "ana", scope: Scope = "write") -> Browser:
        """Somebody who followed a login link."""
        browser = Browser(self.url)
        link = issue_login(self.house.settings, actor, scope)
        answer = browser.session.post(
            f"{self.url}/login", data={"token": link}, headers={"Origin": self.url},
            timeout=TIMEOUT_SECONDS, allow_redirects=False,
        )  # fmt: skip
        assert answer.status_code == 303, answer.text
        return browser


@contextmanager
def running_console(
    settings: Settings, database: Database | None = None
) -> Iterator[RunningConsole]:
    """Serves the console on a port of its own until the block ends."""
    # Here, since every process of a test run reads this file.
    import uvicorn

    from runbook_lib.console.application import create
    from runbook_lib.console.serving import listen

    application = create(settings)
    server = uvicorn.Server(uvicorn.Config(application, log_level="error", access_log=False))
    with listen("127.0.0.1:0") as listening:
        port = listening.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield RunningConsole(f"http://127.0.0.1:{port}", application.state.house, database)
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def console_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("console")


@pytest.fixture(scope="module")
def console(server: Server, _template: str, console_home: Path) -> Iterator[RunningConsole]:
    """A console over a migrated database that a module's tests share."""
    with server.new_database(_template) as name:
        database = Database(server.address(name))
        settings = Settings(database_url=database.url, runbook_home=console_home)
        with running_console(settings, database) as running:
            yield running


@pytest.fixture
def new_console(home: Path) -> Callable[..., Any]:
    """Makes consoles for one test: `new_console(database_url=…)` is a context manager."""

    def make(**settings: Any) -> Any:
        return running_console(Settings(**{"runbook_home": home, **settings}))

    return make
