"""JupyterLab for responders: on loopback, with its token, without terminals, without anything from outside.

What it shows is a folder with two links: `notebooks`, the procedures, which it never writes (see
`lab_contents.py`), and `incidents`, the working copies. Its configuration is its own: what somebody has
set for their other Jupyters does not apply here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psutil

from runbook_lib import known_secrets
from runbook_lib.errors import CouldNotBeDone
from runbook_lib.incidents.copies import incidents_folder
from runbook_lib.settings import PROJECT_DIRECTORY, Settings

PORT = 8888
_CONTENTS = "runbook_lib.incidents.lab_contents.ProceduresAndCopies"
OPTIONS = (
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.allow_remote_access=False",
    "--ServerApp.terminals_enabled=False",
    f"--ServerApp.contents_manager_class={_CONTENTS}",
    # Nothing is asked of the internet: no news, no look for updates, no list of extensions.
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)
# It would ask whether to fetch news, whatever the options say.
_PAGE = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}


def directory(settings: Settings) -> Path:
    return settings.runbook_home / "lab"


def prepare(settings: Settings) -> Path:
    """Makes the folder that the lab shows, and those of its own; returns the first."""
    place = directory(settings)
    incidents_folder(settings).mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("root", "config/labconfig", "data", "runtime"):
        (place / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    (place / "config/labconfig/page_config.json").write_text(json.dumps(_PAGE) + "\n", "utf-8")
    links = {"notebooks": PROJECT_DIRECTORY / "notebooks", "incidents": incidents_folder(settings)}
    if settings.runbook_procedures is not None:
        links["own"] = settings.runbook_procedures
    for name, target in links.items():
        _link(place / "root" / name, target)
    return place / "root"


def command(settings: Settings, *, port: int = PORT, browser: bool = True) -> list[str]:
    """The command that serves the lab. As root it needs `--allow-root`; `starting_words` says so."""
    return [
        sys.executable, "-m", "jupyterlab", *OPTIONS, f"--ServerApp.root_dir={directory(settings) / 'root'}",
        f"--ServerApp.port={port}", *([] if browser else ["--no-browser"]),
        *(["--allow-root"] if os.geteuid() == 0 else []),
    ]  # fmt: skip


def environment(settings: Settings, base: Mapping[str, str]) -> dict[str, str]:
    """The lab's environment: its own configuration, and the token that it makes for itself."""
    place = directory(settings)
    kept = {name: text for name, text in base.items() if not name.startswith("JUPYTER")}
    return {
        **kept,
        "JUPYTER_CONFIG_DIR": str(place / "config"),
        "JUPYTER_DATA_DIR": str(place / "data"),
        "JUPYTER_RUNTIME_DIR": str(place / "runtime"),
        "RUNBOOK_HOME": str(settings.runbook_home),
    }


def starting_words() -> list[str]:
    """What somebody who starts the lab should know."""
    said = [
        "JupyterLab on this machine only, with a token. Procedures under notebooks/ open read-only; "
        "`runbook incident open` makes copies to work in."
    ]
    if os.geteuid() == 0:
        said.append(
            "It runs as root, since this process does: so do all cells. Start it as another user where you can."
        )
    return said


def running(settings: Settings) -> dict[str, object] | None:
    """The lab of this RUNBOOK_HOME that is up: what Jupyter wrote about it, token included; None without one."""
    for file in sorted((directory(settings) / "runtime").glob("jpserver-*.json")):
        try:
            found: dict[str, object] = json.loads(file.read_text("utf-8"))
            if psutil.pid_exists(int(str(found["pid"]))):
                known_secrets.register(str(found["token"]), "the lab's token")
                return found
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def link_to(settings: Settings, path: Path | None) -> str | None:
    """The address in the running lab at which a working copy opens, with its token; None without a lab."""
    if (server := running(settings)) is None:
        return None
    address = f"{server['url']}lab"
    if path is not None:
        inside = path.relative_to(incidents_folder(settings))
        address += f"/tree/incidents/{quote(inside.as_posix())}"
    return f"{address}?token={server['token']}"


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and os.readlink(link) == str(target):
        return
    try:
        if link.is_symlink():
            link.unlink()
        link.symlink_to(target)
    except FileExistsError:
        raise CouldNotBeDone(f"{link} is in the way: the lab shows {target} there. Move it away.") from None  # fmt: skip
