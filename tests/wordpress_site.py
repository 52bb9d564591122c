"""A real WordPress for the tests: Debian's package, unpacked, over SQLite, served by `php -S`.

The first run downloads and installs it below `$XDG_CACHE_HOME/runbook-workbench`; later runs copy the
installed database and start in about a second. Nothing is installed on the machine: the package comes
through the machine's own apt sources with state of its own, the SQLite drop-in through npm.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SUITE = "trixie"
SQLITE_PACKAGE = "@wp-playground/cli@3.1.56"  # carries the WordPress project's SQLite drop-in
SQLITE_PLUGIN = "sqlite-database-integration"
PHP_EXTENSIONS = ("pdo_sqlite", "mbstring", "dom")
PHP_OPTIONS = ("-d", "opcache.enable_cli=1", "-d", "memory_limit=256M", "-d", "post_max_size=64M")
OWN_FILES = Path(__file__).parent / "wordpress"
START_SECONDS = 60


class NotHere(Exception):
    """This machine cannot have a WordPress; the message says what is missing."""


@dataclass
class WordPressSite:
    """A running WordPress. `passwords` are application passwords by login."""

    url: str
    passwords: dict[str, str]
    state: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _template: Path = field(default=Path(), repr=False)

    def reset(self) -> None:
        """Back to the freshly installed site: no posts of tests, no faults, no variants."""
        for name in ("fault.json", "variants.json", "requests.jsonl", "site/.maintenance"):
            (self.state / name).unlink(missing_ok=True)
        shutil.rmtree(self.state / "database", ignore_errors=True)
        (self.state / "database").mkdir()
        shutil.copy(
            self._template / "wordpress.sqlite", self.state / "database" / "wordpress.sqlite"
        )

    def fault(self, kind: str, *, match: str = "", times: int = 1_000_000, **details: Any) -> None:
        """What the web server does to the next `times` requests whose line holds `match`.

        A request that is held back goes on when the fault is ended.
        """
        _write_json(
            self.state / "fault.json", {"kind": kind, "match": match, "times": times, **details}
        )

    def end_fault(self) -> None:
        (self.state / "fault.json").unlink(missing_ok=True)

    def variants(self, *names: str) -> None:
        """Settings and plugins of other sites, see wordpress/site-variants.php; none ends them."""
        _write_json(self.state / "variants.json", dict.fromkeys(names, True))

    @contextmanager
    def maintenance(self) -> Iterator[None]:
        """WordPress's own maintenance mode, as during an update."""
        file = self.state / "site" / ".maintenance"
        file.write_text("<?php $upgrading = time();")
        try:
            yield
        finally:
            file.unlink(missing_ok=True)

    def requests(self) -> list[str]:
        """The request lines served since the last reset."""
        file = self.state / "requests.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line)["request"] for line in lines]

    def start(self) -> None:
        """Starts serving; the address stays the same over a stop."""
        port = self.url.rsplit(":", 1)[1]
        php = ["php", *PHP_OPTIONS, "-S", f"127.0.0.1:{port}", "-t", str(self.state / "site")]
        # The shell waits for the end of its input: when this process dies in whatever way, the pipe
        # closes and the server's whole process group goes with it.
        self._process = subprocess.Popen(
            [
                "sh",
                "-c",
                '"$@" & cat >/dev/null; kill -KILL 0',
                "sh",
                *php,
                str(OWN_FILES / "router.php"),
            ],
            env=_environment(self.state, self.url) | {"PHP_CLI_SERVER_WORKERS": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=(self.state / "php.log").open("ab"),
            start_new_session=True,
        )
        _wait_until_it_answers(self.url, self.state)

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def wordpress_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WordPressSite]:
    """One WordPress for the whole session. Skips with the reason; under CI that is an error."""
    try:
        template = installed_template()
        site = make_site(template, tmp_path_factory.mktemp("wordpress"))
    except NotHere as error:
        if os.environ.get("CI"):
            pytest.fail(f"No real WordPress, and under CI there must be one: {error}")
        pytest.skip(f"no real WordPress: {error}")
    try:
        yield site
    finally:
        site.stop()


@pytest.fixture
def wordpress(wordpress_server: WordPressSite) -> WordPressSite:
    """A real WordPress as freshly installed: the categories News, Guides, Research & Development, and
    the users administrator, editor, author, second-author, contributor and subscriber."""
    wordpress_server.reset()
    return wordpress_server


def make_site(template: Path, state: Path) -> WordPressSite:
    """A running site of its own in `state`, made from the installed template."""
    _lay_out(template, state)
    passwords = json.loads((template / "passwords.json").read_text())
    site = WordPressSite(f"http://127.0.0.1:{_free_port()}", passwords, state, _template=template)
    site.reset()
    site.start()
    return site


def installed_template() -> Path:
    """The directory with WordPress unpacked and installed, made on the first call ever."""
    _require_programs()
    recipe = [SUITE, SQLITE_PACKAGE, *(file.read_text() for file in sorted(OWN_FILES.iterdir()))]
    key = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "runbook-workbench"
        / "wordpress"
    )
    cache.mkdir(parents=True, exist_ok=True)
    template = cache / key
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (template / "complete").exists():
            shutil.rmtree(template, ignore_errors=True)
            template.mkdir()
            _unpack(cache, template)
            _install(template)
            (template / "complete").touch()
    return template


def _require_programs() -> None:
    missing = [name for name in ("php", "apt-get", "dpkg-deb", "npm") if shutil.which(name) is None]
    if missing:
        raise NotHere(f"{', '.join(missing)} is missing")
    found = (
        subprocess.run(["php", "-m"], capture_output=True, text=True, check=False)
        .stdout.lower()
        .split()
    )
    if absent := [name for name in PHP_EXTENSIONS if name not in found]:
        raise NotHere(f"PHP's extension {', '.join(absent)} is missing")


def _unpack(cache: Path, template: Path) -> None:
    package, plugin = _download_package(cache), _download_plugin(cache)
    unpacked = template / "unpacked"
    _run(["dpkg-deb", "-x", str(package), str(unpacked)])
    site = (unpacked / "usr/share/wordpress").rename(template / "site")
    shutil.rmtree(unpacked)
    for link in [path for path in site.rglob("*") if path.is_symlink() and not path.exists()]:
        link.unlink()  # to packages of their own: mail, media details, scripts; REST needs none
    with zipfile.ZipFile(plugin) as archive:
        archive.extractall(site / "wp-content/plugins")
    (site / f"wp-content/plugins/plugin-{SQLITE_PLUGIN}").rename(
        site / "wp-content/plugins" / SQLITE_PLUGIN
    )
    shutil.copy(site / "wp-content/plugins" / SQLITE_PLUGIN / "db.copy", site / "wp-content/db.php")
    (site / "wp-content/mu-plugins").mkdir(exist_ok=True)
    shutil.copy(OWN_FILES / "site-variants.php", site / "wp-content/mu-plugins/site-variants.php")
    (site / "wp-config.php").unlink(missing_ok=True)
    shutil.copy(OWN_FILES / "wp-config.php", site / "wp-config.php")


def _install(template: Path) -> None:
    state = template / "installing"
    _lay_out(template, state)
    (state / "database").mkdir()
    environment = _environment(state, "http://127.0.0.1")
    install = ["php", "-d", "display_errors=stderr", str(OWN_FILES / "install.php")]
    _run([*install, "tables"], env=environment)
    printed = _run([*install, "people"], env=environment)
    (template / "passwords.json").write_text(json.dumps(json.loads(printed)))
    shutil.copy(state / "database/wordpress.sqlite", template / "wordpress.sqlite")
    shutil.rmtree(state)


def _lay_out(template: Path, state: Path) -> None:
    """A site directory of its own: WordPress finds its root by its first files, so these are copied."""
    site = state / "site"
    site.mkdir(parents=True)
    for entry in (template / "site").iterdir():
        if entry.is_dir():
            (site / entry.name).symlink_to(entry)
        else:
            shutil.copy(entry, site / entry.name)


def _download_package(cache: Path) -> Path:
    """Debian's wordpress package, through this machine's apt sources but with lists of its own."""
    target = cache / f"wordpress-{SUITE}.deb"
    if target.exists():
        return target
    apt = cache / "apt"
    shutil.rmtree(apt, ignore_errors=True)
    (apt / "lists/partial").mkdir(parents=True)
    (apt / "cache/archives/partial").mkdir(parents=True)
    listed = _run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    ).split()
    archives = [address for address in listed if address.rstrip("/").endswith("/debian")]
    if not archives:
        raise NotHere("apt knows no Debian archive")
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (apt / "sources.list").write_text(f"deb [signed-by={keys}] {archives[0]} {SUITE} main\n")
    (apt / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{apt}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{apt}/lists";\nDir::Cache "{apt}/cache";\nAcquire::Languages "none";\n'
        'APT::Sandbox::User "root";\n'
    )
    environment = os.environ | {"APT_CONFIG": str(apt / "apt.conf")}
    _run(["apt-get", "-qq", "update"], env=environment)
    _run(["apt-get", "-qq", "download", "wordpress"], env=environment, cwd=apt)
    next(apt.glob("wordpress_*.deb")).rename(target)
    shutil.rmtree(apt)
    return target


def _download_plugin(cache: Path) -> Path:
    target = cache / f"{SQLITE_PLUGIN}.zip"
    if target.exists():
        return target
    npm = cache / "npm"
    shutil.rmtree(npm, ignore_errors=True)
    npm.mkdir()
    _run(["npm", "pack", "--silent", SQLITE_PACKAGE], cwd=npm)
    _run(["tar", "-xzf", next(npm.glob("*.tgz")).name, f"package/{SQLITE_PLUGIN}.zip"], cwd=npm)
    (npm / f"package/{SQLITE_PLUGIN}.zip").rename(target)
    shutil.rmtree(npm)
    return target


def _environment(state: Path, url: str) -> dict[str, str]:
    return os.environ | {"WORKBENCH_STATE": str(state), "WORKBENCH_URL": url}


def _run(command: list[str], **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise NotHere(f"`{' '.join(command[:3])}` failed: {last}")
    return done.stdout


def _wait_until_it_answers(url: str, state: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{url}/wp-json/?_fields=name", timeout=START_SECONDS):
                return
        except urllib.error.HTTPError as error:
            raise NotHere(f"WordPress answers {error.code}: {error.read()[:200]!r}") from None
        except OSError:
            time.sleep(0.05)
    raise NotHere(f"WordPress did not answer within {START_SECONDS} s, see {state / 'php.log'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write_json(file: Path, value: Any) -> None:
    # Whole or not at all: the server may read it at any moment.
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(value))
    draft.replace(file)


if __name__ == "__main__":
    # Serves a fresh site until Ctrl-C, to look at by hand.
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        shown = make_site(installed_template(), Path(directory) / "state")
        print(json.dumps({"url": shown.url, "passwords": shown.passwords}, indent=2), flush=True)
        try:
            sys.stdin.read()
        except KeyboardInterrupt:
            pass
        finally:
            shown.stop()
