"""The archive takes an object once and whole, and its pages are safe and need nothing from outside."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from chromium import browser, open_tab
from click.testing import CliRunner

from runbook_lib import known_secrets
from runbook_lib.archive.notebook_files import notebook_bytes, read_notebook
from runbook_lib.archive.redaction import redact_notebook
from runbook_lib.archive.rendering import Page, render
from runbook_lib.archive.store import FolderStore, Store, open_store
from runbook_lib.cli.archive import archive as archive_command
from runbook_lib.database import Database
from runbook_lib.errors import ConfigurationError, CouldNotBeDone, NotFoundError, UsageError
from runbook_lib.settings import Settings


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "archive")


def test_an_object_is_read_back_as_it_was_written(store: FolderStore) -> None:
    stored = store.write("weekly/review/one.ipynb", b"\0data")
    assert store.read(stored.name) == b"\0data"
    assert store.found(stored.name) == stored
    assert stat.S_IMODE(store.path(stored.name).stat().st_mode) == 0o440


def test_nothing_is_ever_overwritten(store: FolderStore) -> None:
    store.write("a/b", b"first")
    with pytest.raises(CouldNotBeDone, match="nothing in it is overwritten"):
        store.write("a/b", b"second")
    assert store.read("a/b") == b"first"
    assert [path.name for path in (store.root / "a").iterdir()] == ["b"]


def test_of_many_writers_of_one_name_one_succeeds(store: FolderStore) -> None:
    outcomes: list[bytes | None] = []
    barrier = threading.Barrier(8)

    def write(data: bytes) -> None:
        barrier.wait()
        try:
            store.write("a/b", data)
            outcomes.append(data)
        except CouldNotBeDone:
            outcomes.append(None)

    threads = [threading.Thread(target=write, args=(bytes([65 + n]) * 100_000,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if outcome]
    assert len(winners) == 1
    assert store.read("a/b") == winners[0]


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "a//b", "", ".", "a/.hidden", "-rf", "a/b\0c", "a\nb", "a/b/",
     "ä/b", "a" * 300, "a\\b", "C:/x"],
)  # fmt: skip
def test_a_name_cannot_escape(store: FolderStore, name: str) -> None:
    with pytest.raises(UsageError):
        store.write(name, b"x")
    with pytest.raises(UsageError):
        store.read(name)
    assert not store.root.exists()


def test_a_link_inside_the_archive_leads_nowhere(store: FolderStore, tmp_path: Path) -> None:
    store.write("a/b", b"x")
    (tmp_path / "archive-secret").mkdir()
    (store.root / "out").symlink_to(tmp_path / "archive-secret")
    with pytest.raises(UsageError, match="through a link"):
        store.write("out/x", b"x")
    assert list((tmp_path / "archive-secret").iterdir()) == []


def test_a_disk_that_takes_no_more_leaves_no_torn_object(store: FolderStore) -> None:
    """Tried in a process whose files may not grow beyond a limit, as on a full disk."""
    store.write("a/earlier", b"stays")
    child = os.fork()
    if child == 0:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            store.write("a/later", b"x" * 100_000)
        except CouldNotBeDone:
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert sorted(path.name for path in (store.root / "a").iterdir()) == ["earlier"]
    assert store.read("a/earlier") == b"stays"


def test_the_archive_is_where_the_settings_say(home: Path, tmp_path: Path) -> None:
    assert open_store(Settings(runbook_home=home)).root == home / "archive"
    elsewhere = Settings(runbook_home=home, runbook_archive=str(tmp_path / "elsewhere"))
    assert open_store(elsewhere).root == tmp_path / "elsewhere"
    with_url = Settings(runbook_home=home, runbook_archive=f"file://{tmp_path}/by%20url")
    assert open_store(with_url).root == tmp_path / "by url"
    with pytest.raises(ConfigurationError, match="nosuch"):
        open_store(Settings(runbook_home=home, runbook_archive="nosuch://bucket/key"))


PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<img src='https://tracker.example/x.png'>",
    "<style>body{background:url(https://tracker.example/y)}</style>",
    "<div style='background:url(https://tracker.example/z)' onclick='alert(1)'>x</div>",
    "<form action='https://tracker.example'><button>x</button></form>",
    "<base href='https://tracker.example/'><meta http-equiv=refresh content='0;url=https://x.example'>",
    "<object data='https://tracker.example/o'></object><embed src='https://tracker.example/e'>",
    "</pre></div></main><script>alert(1)</script>",
]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def notebook_with(*payloads: str) -> Any:
    """Each payload everywhere where a notebook can hold a text."""
    notebook = nbformat.v4.new_notebook(metadata={"title": "".join(payloads)})
    for payload in payloads:
        outputs = [
            nbformat.v4.new_output("stream", name="stdout", text=payload),
            nbformat.v4.new_output("display_data", {"text/html": payload, "text/plain": payload}),
            nbformat.v4.new_output("display_data", {"text/markdown": payload}),
            nbformat.v4.new_output("display_data", {"image/svg+xml": f"<svg>{payload}</svg>"}),
            nbformat.v4.new_output("display_data", {"text/latex": payload}),
            nbformat.v4.new_output("display_data", {"application/javascript": payload}),
            nbformat.v4.new_output("error", ename="E", evalue=payload, traceback=[payload]),
        ]
        notebook.cells.append(nbformat.v4.new_markdown_cell(payload))
        notebook.cells.append(nbformat.v4.new_raw_cell(payload))
        notebook.cells.append(nbformat.v4.new_code_cell(repr(payload), outputs=outputs))
    return notebook


class Loaded(HTMLParser):
    """What a browser would execute or load from this page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("script", "iframe", "object", "embed", "base", "form", "link", "svg"):
            self.found.append(tag)
        for name, value in attributes:
            text = (value or "").strip().lower()
            loads = name in ("src", "srcset", "srcdoc", "data", "poster", "background", "action")
            if name.startswith("on") or name == "style":
                self.found.append(f"{tag} {name}")
            if loads and not text.startswith("data:image/"):
                self.found.append(f"{tag} {name}={text[:40]}")
            if name == "href" and not text.startswith(("http://", "https://", "mailto:")):
                self.found.append(f"{tag} {name}={text[:40]}")
        if tag == "img":
            self.pictures.append(dict(attributes))


def test_a_page_executes_and_loads_nothing_whatever_stood_in_the_notebook() -> None:
    payload = "".join(PAYLOADS)
    page = Page(payload, payload, payload, payload, ((payload, payload),))
    text = render(notebook_with(*PAYLOADS), page).decode()
    assert Loaded(text).found == []
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_a_page_forbids_by_policy_what_sanitising_might_overlook() -> None:
    text = render(notebook_with("x"), Page("t", "ok")).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;; img-src data:; style-src &#39;sha256-")
    assert "unsafe" not in policy[1]


@pytest.mark.skipif(browser() is None, reason="there is no Chromium")
def test_a_browser_runs_and_loads_nothing_of_a_hostile_notebook(tmp_path: Path) -> None:
    file = tmp_path / "run.html"
    payload = "".join(PAYLOADS)
    page = Page(payload, "critical", payload, payload, ((payload, payload),))
    file.write_bytes(render(notebook_with(*PAYLOADS), page))
    with open_tab() as tab:
        for width, dark in ((360, True), (1200, False)):
            tab.look(width, dark=dark)
            tab.open(file.as_uri())
            assert tab.value("document.documentElement.scrollWidth") <= width
        tab.value("for (const each of document.querySelectorAll('main *')) each.click()")
        assert tab.dialogs == []
        assert {each for each in tab.requested if not each.startswith(("about:", "data:"))} == {
            file.as_uri()
        }


def test_a_page_keeps_what_a_reader_needs() -> None:
    notebook = notebook_with()
    outputs = [
        nbformat.v4.new_output(
            "display_data", {"image/png": PIXEL, "text/plain": "A dot"},
            metadata={"image/png": {"alt": "A dot"}},
        ),
        nbformat.v4.new_output("display_data", {"text/html": "<table><tr><td>17</td></tr></table>"}),
        nbformat.v4.new_output("stream", name="stdout", text="\x1b[31mred\x1b[0m"),
    ]  # fmt: skip
    notebook.cells += [
        nbformat.v4.new_markdown_cell("## Heading\n\n[out](https://example.org) [in](../x.md)"),
        nbformat.v4.new_code_cell("answer = 42", outputs=outputs),
    ]
    page = Page("Weekly", "timed_out", "So so.", "It stopped.", (("actor", "somebody"),))
    text = render(notebook, page).decode()
    loaded = Loaded(text)
    assert loaded.pictures[0]["alt"] == "A dot"
    assert base64.b64decode(str(loaded.pictures[0]["src"]).split(",")[1]) == base64.b64decode(PIXEL)
    assert "<h2" in text
    assert 'href="https://example.org"' in text
    assert "../x.md" not in text
    assert "<td>17</td>" in text
    assert "ansi-red-fg" in text
    for words in ("timed out", "So so.", "It stopped.", "somebody", "Weekly"):
        assert words in text


SECRET = "hunter-of-42-snarks/and more"


def test_redaction_finds_a_secret_wherever_it_stands() -> None:
    known_secrets.register(SECRET, "a canary")
    coloured = f"\x1b[31m{SECRET[:6]}\x1b[0m\x1b[32m{SECRET[6:]}\x1b[0m"
    notebook = notebook_with(SECRET, base64.b64encode(f"user:{SECRET}".encode()).decode())
    notebook.metadata["deep"] = {"list": [{SECRET: [SECRET]}]}
    cell = nbformat.v4.new_code_cell("1", metadata={"tags": [SECRET]})
    cell.outputs = [
        nbformat.v4.new_output("stream", name="stdout", text=SECRET[:10]),
        nbformat.v4.new_output("stream", name="stdout", text=SECRET[10:]),
        nbformat.v4.new_output("error", ename="E", evalue="e", traceback=["first", coloured]),
        nbformat.v4.new_output("display_data", {"application/json": {"a": [SECRET]}}),
        nbformat.v4.new_output("display_data", {"image/png": PIXEL}),
    ]
    notebook.cells.append(cell)
    attached = nbformat.v4.new_markdown_cell("x")
    attached["attachments"] = {"a.txt": {"text/plain": SECRET}}
    notebook.cells.append(attached)
    redact_notebook(notebook)
    data = notebook_bytes(notebook)
    assert known_secrets.found_in(data) == []
    assert SECRET[6:].encode() not in data
    assert PIXEL.encode() in data
    again = read_notebook(data)
    nbformat.validate(again)
    assert again.cells[-2].outputs[0].text == "[masked]"


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xfe", b'{"cells": ['])
def test_what_is_no_notebook_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(UsageError, match="is not a notebook"):
        read_notebook(data, "evidence")


def file_run(database: Database, store: Store, data: bytes = b"{}") -> str:
    stored = store.write("weekly/review/one.ipynb", data)
    page = store.write("weekly/review/one.html", b"<html></html>")
    with database.transaction() as transaction:
        return str(
            transaction.value(
                """
                INSERT INTO notebook_runs (
                    procedure, status, verdict, results, actor, trigger, ended_at, host, pid,
                    source_sha256, archive_notebook, archive_html, archive_sha256
                )
                VALUES ('weekly/review', 'succeeded', 'ok', '{"n": 1}', 'tester', 'manual', now(), 'h', 1,
                        '', %(notebook)s, %(page)s, %(sha)s)
                RETURNING run_id::text
                """,
                notebook=stored.name, page=page.name, sha=stored.sha256,
            )
        )  # fmt: skip


@pytest.fixture
def command(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    assert settings.database_url is not None
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())

    def call(*arguments: str) -> Any:
        return CliRunner().invoke(archive_command, list(arguments), standalone_mode=False)

    return call


def test_runs_are_listed_and_shown_with_whether_the_notebook_is_unaltered(
    database: Database, settings: Settings, command: Any
) -> None:
    store = open_store(settings)
    assert isinstance(store, FolderStore)
    run_id = file_run(database, store)
    listed = json.loads(command("list", "--json").stdout)
    assert [(each["run_id"], each["verdict"]) for each in listed] == [(run_id, "ok")]
    assert json.loads(command("list", "--procedure", "daily/x", "--json").stdout) == []

    shown = command("show", run_id[:8], "--json")
    entry = json.loads(shown.stdout)
    assert (shown.return_value, entry["notebook_state"], entry["results"]) == (
        0,
        "unaltered",
        {"n": 1},
    )

    path = store.path("weekly/review/one.ipynb")
    path.chmod(0o640)
    path.write_bytes(b'{"altered": true}')
    altered = command("show", run_id, "--json")
    assert (altered.return_value, json.loads(altered.stdout)["notebook_state"]) == (1, "altered")
    path.unlink()
    missing = command("show", run_id)
    assert missing.return_value == 1
    assert re.search(r"notebook state\s+missing", missing.stdout)


@pytest.mark.parametrize("run_id", ["%", "nothing", "../..", "0"])
def test_what_is_no_id_of_a_run_is_refused(run_id: str, database: Database, command: Any) -> None:
    assert isinstance(command("show", run_id).exception, UsageError)


def test_a_run_that_does_not_exist_is_said(database: Database, command: Any) -> None:
    assert isinstance(command("show", "0000-beef").exception, NotFoundError)


def test_an_object_store_keeps_what_a_folder_keeps(home: Path) -> None:
    place = f"memory://archive-{home.parent.name}/runs"
    store = open_store(Settings(runbook_home=home, runbook_archive=place))
    assert list(store.names()) == []
    stored = store.write("weekly/one.ipynb", b"\0data")
    assert (store.read(stored.name), store.found(stored.name)) == (b"\0data", stored)
    with pytest.raises(CouldNotBeDone, match="nothing in it is overwritten"):
        store.write("weekly/one.ipynb", b"other")
    assert list(store.names()) == ["weekly/one.ipynb"]
    assert store.address("weekly/one.ipynb") == f"{place}/weekly/one.ipynb"
    for name in ("../x", "a/../x", "/x", "a\0b"):
        with pytest.raises(UsageError):
            store.write(name, b"x")
    assert store.remove("weekly/one.ipynb")
    assert not store.remove("weekly/one.ipynb")
    with pytest.raises(NotFoundError):
        store.read("weekly/one.ipynb")
