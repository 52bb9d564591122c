"""The virtual environments: made with venv and uv, or pip where uv cannot be had.

An environment is made anew when its Python or its place changed, brought up to date when its lock
changed, and left alone otherwise. One process at a time sets up; others wait for it.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from progress import step

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv" / "bin" / "uv"
UV_REQUIREMENTS = ROOT / ".ci" / "requirements-uv.txt"


class SetUpFailed(Exception):
    """The environment could not be made; the message says why and what to do."""


@dataclass(frozen=True)
class Environment:
    """One virtual environment: its place, its lock, and whether the project itself goes in."""

    directory: Path
    requirements: Path
    with_project: bool

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.directory / "set-up.stamp"

    def contents(self) -> str:
        """What the environment is made from, as one digest."""
        digest = hashlib.sha256()
        for path in (self.requirements, ROOT / "pyproject.toml", UV_REQUIREMENTS):
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def foundation(self) -> str:
        """What makes an environment unusable when it changes: the Python and the place."""
        return f"Python {sys.version_info[0]}.{sys.version_info[1]} in {self.directory}"


PROJECT = Environment(ROOT / ".venv", ROOT / "requirements.txt", with_project=True)
PEERS = Environment(
    ROOT / "benchmarks" / ".venv", ROOT / "benchmarks" / "requirements.txt", with_project=False
)


def set_up(environment: Environment) -> None:
    """Brings an environment up to date. Raises `SetUpFailed`."""
    if is_up_to_date(environment):
        return
    with one_at_a_time():
        if is_up_to_date(environment):
            return
        make_environment(environment)
        install(environment)
        environment.stamp.write_text(f"{environment.foundation()}\n{environment.contents()}\n")


def is_up_to_date(environment: Environment) -> bool:
    return stamped(environment) == [environment.foundation(), environment.contents()] and works(
        environment
    )


def stamped(environment: Environment) -> list[str]:
    try:
        return environment.stamp.read_text().splitlines()
    except FileNotFoundError:
        return []


def works(environment: Environment) -> bool:
    """Whether its Python starts, is of the version that is running now, and has pip."""
    question = (
        "import sys, importlib.util as u; print(*sys.version_info[:2], bool(u.find_spec('pip')))"
    )
    try:
        answer = subprocess.run(
            [environment.python, "-I", "-c", question], capture_output=True, text=True, check=False
        )
    except OSError:
        return False
    return answer.stdout.split() == [*map(str, sys.version_info[:2]), "True"]


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Holds the set-up lock. The kernel drops it when the process ends, however it ends."""
    home = ROOT / ".runbook"
    home.mkdir(mode=0o700, exist_ok=True)
    with open(home / "set-up.lock", "a") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another process is setting up; waiting for it.", flush=True)
            fcntl.flock(lock_file, fcntl.LOCK_EX)
        yield


def make_environment(environment: Environment) -> None:
    found = stamped(environment)
    if works(environment) and (not found or found[0] == environment.foundation()):
        return
    if importlib.util.find_spec("ensurepip") is None:
        raise SetUpFailed(
            "Python's ensurepip module is missing, so no virtual environment can be made. Type:\n"
            f"    {ensurepip_command()}\nand try again."
        )
    with step(f"virtual environment, Python {sys.version_info[0]}.{sys.version_info[1]}") as run:
        environment.directory.parent.mkdir(parents=True, exist_ok=True)
        if run([sys.executable, "-I", "-m", "venv", "--clear", environment.directory]):
            raise SetUpFailed("The virtual environment could not be made; the lines above say why.")


def ensurepip_command() -> str:
    """The one command that installs ensurepip on this distribution."""
    words = {}
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        if os.path.exists(path):
            lines = Path(path).read_text(encoding="utf-8").splitlines()
            words = dict(line.split("=", 1) for line in lines if "=" in line)
            break
    family = f"{words.get('ID', '')} {words.get('ID_LIKE', '')}".replace('"', "").split()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    sudo = "" if os.geteuid() == 0 else "sudo "
    if "debian" in family or "ubuntu" in family:
        return f"{sudo}apt install python{version}-venv"
    if "fedora" in family or "rhel" in family:
        return f"{sudo}dnf install python{version}"
    if "suse" in family or "opensuse" in family:
        return f"{sudo}zypper install python{version.replace('.', '')}"
    if "alpine" in family:
        return f"{sudo}apk add python3 py3-pip"
    return f"(your package manager's package that holds Python {version}'s venv and ensurepip)"


def install(environment: Environment) -> None:
    """Installs the lock, and the project itself where it belongs, with the first tool that can."""
    if not has_uv():
        install_uv(environment)
    for name, command, variables in tools(environment):
        with step(f"{package_count(environment)} packages, with {name}") as run:
            if run([*command, "--require-hashes", "-r", environment.requirements], variables):
                continue
        if environment.with_project:
            with step("the project itself") as run:
                if run([*command, "--no-deps", "--no-build-isolation", "-e", ROOT], variables):
                    continue
        return
    raise SetUpFailed(
        "The packages could not be installed; the lines above say why. Without a network, point pip to an index or "
        "a folder of wheels (PIP_INDEX_URL, or PIP_NO_INDEX=1 and PIP_FIND_LINKS) and try again."
    )


def tools(environment: Environment) -> list[tuple[str, list[object], dict[str, str]]]:
    """What can install, the faster first: its name, its command and its variables."""
    pip = ("pip", [environment.python, "-I", "-m", "pip", "install"], pip_variables())
    if not has_uv():
        return [pip]
    # Not compiled ahead (--compile-bytecode): that takes longer than the first run gains (measured).
    command = [UV, "pip", "install", "--python", environment.python]
    return [("uv", command, {**os.environ, **uv_variables_from_pip(environment)}), pip]


def install_uv(environment: Environment) -> None:
    with step("uv, which installs faster than pip") as run:
        command = [
            environment.python,
            "-I",
            "-m",
            "pip",
            "install",
            "--require-hashes",
            "--no-deps",
        ]
        if run([*command, "--only-binary", ":all:", "-r", UV_REQUIREMENTS], pip_variables()):
            run.remark("uv cannot be had here: going on with pip")


def has_uv() -> bool:
    """Whether the uv that the lock pins is there and starts."""
    pinned = UV_REQUIREMENTS.read_text().split("uv==", 1)[1].split()[0]
    try:
        answer = subprocess.run([UV, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return pinned in answer.stdout.split()


def pip_variables() -> dict[str, str]:
    # PIP_USER=1 in somebody's shell makes pip refuse to install into an environment.
    return {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def package_count(environment: Environment) -> int:
    return sum(
        "==" in line
        for line in environment.requirements.read_text().splitlines()
        if line[:1].isalnum()
    )


# pip's option → uv's variables. uv does not read pip's configuration by itself.
UV_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX",),
    "extra-index-url": ("UV_EXTRA_INDEX_URL",),
    "find-links": ("UV_FIND_LINKS",),
    "no-index": ("UV_NO_INDEX",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "default-timeout": ("UV_HTTP_TIMEOUT",),
    "timeout": ("UV_HTTP_TIMEOUT",),
    "cert": ("SSL_CERT_FILE",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "proxy": ("HTTPS_PROXY", "HTTP_PROXY"),
}


def uv_variables_from_pip(environment: Environment) -> dict[str, str]:
    """What pip is configured with, in uv's words; what uv is configured with itself stays."""
    options = pip_configuration(environment)
    variables = {}
    for option, names in UV_VARIABLES.items():
        if option in options:
            separator = "," if option == "find-links" else " "
            variables.update({name: separator.join(options[option].split()) for name in names})
    if "UV_EXTRA_INDEX_URL" in variables:
        # pip takes a package from whichever index has it; uv would stop at the first that knows the
        # name. Every file is pinned by its hash, so the choice of index cannot change what is installed.
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: value for name, value in variables.items() if name not in os.environ}


def pip_configuration(environment: Environment) -> dict[str, str]:
    """pip's options from its files and variables, the more special ones last."""
    answer = subprocess.run(
        [environment.python, "-I", "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in answer.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in found:
            found[section][option] = str(ast.literal_eval(value))
    return {**found["global"], **found["install"], **found[":env:"]}
