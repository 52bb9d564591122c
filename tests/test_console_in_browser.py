"""The console in a real browser: a phone at night, the keyboard, the network blocked, and no script of a row's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from chromium import Tab, browser, open_tab
from console_content import HOSTILE, fill
from running_console import RunningConsole

from runbook_lib.credentials.console_tokens import login_link

pytestmark = pytest.mark.skipif(
    browser() is None, reason="neither Chromium nor Chrome is installed"
)

PAGES = ("/", "/alerts", "/triage", "/jobs?class=mystery", "/brakes", "/changes", "/procedures",
         "/procedures/weekly/performance_review", "/runs", "/schedules", "/access")  # fmt: skip
# The lowest contrast of any text with what is behind it (WCAG 2.2, 1.4.3), and where it is.
LOWEST_CONTRAST = """
(() => {
  const channel = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const behind = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const c = parse(getComputedStyle(at).backgroundColor);
      if (c[3] > 0.99) return c;
    }
    return [255, 255, 255, 1];
  };
  let lowest = [99, ""];
  for (const each of document.querySelectorAll("body *")) {
    const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || each.closest("svg, iframe, noscript, script") || !each.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(each).color)), light(behind(each))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < lowest[0]) lowest = [contrast, each.outerHTML.slice(0, 120)];
  }
  return lowest;
})()
"""


@pytest.fixture(scope="module")
def tab(console: RunningConsole) -> Iterator[Tab]:
    """A phone, signed in by the printed link."""
    assert console.database is not None
    fill(console.database, hours=20)
    settings = console.house.settings.model_copy(
        update={"runbook_console_address": console.url.removeprefix("http://")}
    )
    with open_tab() as opened:
        opened.look(360, dark=True)
        opened.open(login_link(settings, "ana"))
        opened.wait_until("location.pathname === '/' && document.readyState === 'complete'")
        yield opened


def test_the_links_token_is_gone_from_the_address_and_no_script_can_read_the_cookie(
    tab: Tab,
) -> None:
    assert tab.value("location.hash + location.search") == ""
    assert tab.value("document.cookie") == ""
    assert not [address for address in tab.requested if "#" in address and "login" not in address]
    history = tab.ask("Page.getNavigationHistory")["entries"]
    assert not [entry["url"] for entry in history if "#" in entry["url"]]


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1200, False)])
def test_every_page_fits_and_reads_well_without_a_network(
    console: RunningConsole, tab: Tab, width: int, dark: bool
) -> None:
    tab.look(width, dark=dark)
    for path in PAGES:
        tab.open(console.url + path)
        assert tab.value("document.documentElement.scrollWidth") <= width, path
        contrast, where = tab.value(LOWEST_CONTRAST)
        assert contrast >= 4.5, (path, where)
        unnamed = "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')].filter(e => !e.labels.length).length"
        assert tab.value(unnamed) == 0, path
    assert {
        address for address in tab.requested if not address.startswith((console.url, "about:"))
    } == set()
    assert tab.console == []


def test_a_hostile_row_runs_nothing(console: RunningConsole, tab: Tab) -> None:
    tab.open(f"{console.url}/jobs?class=mystery")
    tab.value("document.querySelector('tbody a').click()")
    tab.wait_until("location.pathname.length > 20 && document.readyState === 'complete'")
    assert tab.value("document.querySelectorAll('main img, main script').length") == 0
    assert tab.dialogs == []
    assert len(HOSTILE) == 4


def test_the_keyboard_skips_to_the_content_and_reaches_the_forms(
    console: RunningConsole, tab: Tab
) -> None:
    tab.open(f"{console.url}/brakes")
    tab.press("Tab")
    assert tab.value("document.activeElement.className") == "skip"
    tab.press("Enter")
    assert tab.value("document.activeElement.id") == "main"
    tab.press("Tab")
    assert tab.value("document.getElementById('main').contains(document.activeElement)")


def test_what_is_new_appears_without_loading_the_page_again(
    console: RunningConsole, tab: Tab
) -> None:
    assert console.database is not None
    tab.open(f"{console.url}/brakes")
    tab.value("window.stayed = true")
    with console.database.transaction() as transaction:
        transaction.run(
            "INSERT INTO workers (worker, host, pid, version, concurrency, prefetch) VALUES ('host-new:1', 'host-new', 1, '1', 1, 0)"
        )
    tab.wait_until("document.getElementById('worker-list').textContent.includes('host-new:1')")
    assert tab.value("window.stayed") is True
