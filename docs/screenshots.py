"""Makes the pictures of docs/images from what a practice archived: `python docs/screenshots.py`.

Before it: `runbook rehearse quota`, `runbook rehearse do run emergency/system_down`. Needs Chromium
or Chrome. With a folder as argument, it takes that archive instead.
`python docs/screenshots.py console [FOLDER]` makes pictures of every page of the console instead, narrow
and wide, light and dark, over a database of its own with two days of history, with the network blocked.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
ARCHIVES = (
    ROOT / ".runbook" / "demo" / "archive",
    ROOT / ".runbook" / "archive",
    *(ROOT / ".runbook" / "rehearsals").glob("*/archive"),
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# picture → procedure, width and height of the window
PICTURES = {
    "system_down.png": ("emergency/system_down", 1000, 1560),
}
CONSOLE_PAGES = {
    "overview": "/", "alerts": "/alerts", "jobs": "/jobs", "hostile": "/jobs?class=mystery",
    "brakes": "/brakes", "procedures": "/procedures", "procedure": "/procedures/weekly/performance_review",
    "runs": "/runs", "schedules": "/schedules", "changes": "/changes?kind=jobs.retry#plan",
    "access": "/access", "nothing": "/nothing",
}  # fmt: skip
COLOURS = 64
LIMIT_BYTES = 300_000


def main() -> int:
    if sys.argv[1:2] == ["console"]:
        return console_pictures(Path(sys.argv[2] if len(sys.argv) > 2 else "console-pictures"))
    archives = [Path(sys.argv[1])] if len(sys.argv) > 1 else ARCHIVES
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"None of {', '.join(BROWSERS)} is installed.", file=sys.stderr)
        return 3
    for picture, (procedure, width, height) in PICTURES.items():
        page = newest_page(archives, procedure)
        if page is None:
            print(
                f"No archived page of {procedure}; make one first: see the top of this file.",
                file=sys.stderr,
            )
            return 3
        target = ROOT / "docs" / "images" / picture
        target.parent.mkdir(exist_ok=True)
        photograph(browser, page, target, width, height)
        print(
            f"{target.relative_to(ROOT)}: {target.stat().st_size / 1000:.0f} kB, from {page.name}"
        )
    return 0


def console_pictures(folder: Path) -> int:
    """Every page of the console, as people see it; says which do not fit their window."""
    sys.path.insert(0, str(ROOT / "tests"))
    from chromium import browser, open_tab
    from console_content import fill
    from running_console import running_console

    from runbook_lib.credentials.console_tokens import login_link
    from runbook_lib.database import open_database
    from runbook_lib.settings import Settings

    if browser() is None:
        print(f"None of {', '.join(BROWSERS)} is installed.", file=sys.stderr)
        return 3
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(_env_file=None, database_url=None, runbook_home=Path(home))
        with open_database(settings) as database:
            fill(database)
            with running_console(settings, database) as console, open_tab() as tab:
                address = console.url.removeprefix("http://")
                reachable = settings.model_copy(update={"runbook_console_address": address})
                tab.open(login_link(reachable, "ana"))
                tab.wait_until("location.pathname === '/' && document.readyState === 'complete'")
                for name, path in CONSOLE_PAGES.items():
                    for width, dark in ((360, True), (360, False), (1200, True), (1200, False)):
                        tab.look(width, dark=dark)
                        tab.open(console.url + path)
                        if tab.value("document.documentElement.scrollWidth") > width:
                            print(f"{path} does not fit {width} pixels")
                        tab.picture(folder / f"{name}_{width}_{'dark' if dark else 'light'}.png")
                outside = [
                    url for url in tab.requested if not url.startswith((console.url, "about:"))
                ]
                print(
                    f"{folder}: {4 * len(CONSOLE_PAGES)} pictures; requests to elsewhere: {len(outside)}"
                )
    return 0


def newest_page(archives: list[Path] | tuple[Path, ...], procedure: str) -> Path | None:
    pages = [page for archive in archives for page in (archive / procedure).glob("*.html")]
    return max(pages, key=lambda page: page.name, default=None)


def photograph(browser: str, page: Path, target: Path, width: int, height: int) -> None:
    """The upper part of a page, in few colours, so that the picture stays small."""
    with tempfile.TemporaryDirectory() as profile:
        taken = Path(profile) / "taken.png"
        options = ["--headless", "--disable-gpu", "--disable-background-networking",
                   "--disable-component-update", "--disable-sync", "--no-first-run", "--no-sandbox",
                   "--hide-scrollbars"]  # fmt: skip
        subprocess.run(
            [browser, *options, f"--user-data-dir={profile}", f"--window-size={width},{height}",
             f"--screenshot={taken}", page.resolve().as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        Image.open(taken).convert("RGB").quantize(COLOURS).save(target, optimize=True)
    if target.stat().st_size > LIMIT_BYTES:
        raise SystemExit(f"{target} is larger than {LIMIT_BYTES} bytes")


if __name__ == "__main__":
    sys.exit(main())
