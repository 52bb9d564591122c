"""Makes the pictures of docs/images from what `make demo` archived: `python docs/screenshots.py`.

Needs Chromium or Chrome. With a folder as argument, it takes that archive instead of the demo's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
ARCHIVES = (ROOT / ".runbook" / "demo" / "archive", ROOT / ".runbook" / "archive")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# picture → procedure, width and height of the window
PICTURES = {"weekly_performance_review.png": ("weekly/performance_review", 1000, 2080)}
COLOURS = 64
LIMIT_BYTES = 300_000


def main() -> int:
    archives = [Path(sys.argv[1])] if len(sys.argv) > 1 else ARCHIVES
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"None of {', '.join(BROWSERS)} is installed.", file=sys.stderr)
        return 3
    for picture, (procedure, width, height) in PICTURES.items():
        page = newest_page(archives, procedure)
        if page is None:
            print(f"No archived page of {procedure}; run `make demo` first.", file=sys.stderr)
            return 3
        target = ROOT / "docs" / "images" / picture
        target.parent.mkdir(exist_ok=True)
        photograph(browser, page, target, width, height)
        print(
            f"{target.relative_to(ROOT)}: {target.stat().st_size / 1000:.0f} kB, from {page.name}"
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
