"""Headless Chromium through its debugging protocol: pages as people see them, and every request they make."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-extensions", "--no-first-run", "--no-sandbox", "--hide-scrollbars",
    "--disable-dev-shm-usage", "--remote-debugging-port=0", "--remote-allow-origins=*",
    # Nothing outside of this machine has a name or can be reached.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--proxy-server=direct://",
)  # fmt: skip
WAIT_SECONDS = 60


def browser() -> str | None:
    """Chromium or Chrome, if one is installed."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Tab:
    """One page in the browser."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(
            address, timeout=WAIT_SECONDS, suppress_origin=True
        )
        self._number = 0
        self.requested: list[str] = []
        self.console: list[str] = []
        self.dialogs: list[str] = []
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol; returns its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                found: dict[str, Any] = message["result"]
                return found
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        given = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requested.append(given["request"]["url"])
        elif message.get("method") == "Log.entryAdded":
            self.console.append(given["entry"]["text"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.console.append(json.dumps(given["exceptionDetails"])[:400])
        elif message.get("method") == "Page.javascriptDialogOpening":
            self.dialogs.append(given["message"])
            self._number += 1
            self._socket.send(
                json.dumps(
                    {
                        "id": self._number,
                        "method": "Page.handleJavaScriptDialog",
                        "params": {"accept": True},
                    }
                )
            )

    def look(self, width: int, *, dark: bool = False, height: int = 740) -> None:
        """A window of this width, in light or dark; a narrow one is a phone."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if width < 500 else 1,
            mobile=width < 500,
        )
        self.ask(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )

    def open(self, address: str) -> None:
        """Goes there, and waits until the page and what it leads on to is loaded."""
        self.ask("Page.navigate", url="about:blank")
        self.ask("Page.navigate", url=address)
        self.wait_until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression: str) -> Any:
        """What an expression is in the page."""
        result = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise AssertionError(result["exceptionDetails"])
        return result["result"].get("value")

    def wait_until(self, expression: str) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                if self.value(expression):
                    return
            except AssertionError:
                pass  # between two pages there is nothing to ask
            assert time.monotonic() < until, f"{expression} did not come true"
            time.sleep(0.05)

    def press(self, key: str) -> None:
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=codes[key],
                text="\r" if key == "Enter" and kind == "keyDown" else "",
            )

    def picture(self, file: Path) -> None:
        """The whole page as a PNG."""
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))

    def close(self) -> None:
        self._socket.close()


@contextmanager
def open_tab() -> Iterator[Tab]:
    """A browser of its own with one tab; both are gone afterwards."""
    program = browser()
    assert program is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            port = _wait_for(lambda: (Path(profile) / "DevToolsActivePort").read_text().split()[0])
            tab = Tab(_wait_for(lambda: _first_page(port)))
            try:
                yield tab
            finally:
                tab.close()
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _first_page(port: str) -> str:
    import requests

    pages = requests.get(f"http://127.0.0.1:{port}/json", timeout=10).json()
    return next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")


def _wait_for(find: Callable[[], str]) -> str:
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return find()
        except (OSError, IndexError, StopIteration, ValueError):
            assert time.monotonic() < until, "the browser did not start"
            time.sleep(0.05)
