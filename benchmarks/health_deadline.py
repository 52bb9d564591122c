"""`health` with every dependency black-holed: it answers within five seconds, and names what is away."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from benchmarks.figures import percentile, report
from benchmarks.scratch import server
from runbook_lib import sandbox
from runbook_lib.functions import call
from runbook_lib.health.context import open_context
from runbook_lib.sandbox.proxy import NetworkProxy
from runbook_lib.settings import PROJECT_DIRECTORY, Settings, environment_without_callers

BAR_SECONDS = 5.0
ROUNDS = 5
FAULTS = ("black_hole", "stall", "drip", "one_way", "reset", "refuse")


def main() -> None:
    """The function in a running process, and the whole command, with database, OpenAI and WordPress away."""
    with server() as running, sandbox.acquire(running.home) as site:
        database = running.new_database()
        in_process: dict[str, list[float]] = {fault: [] for fault in FAULTS}
        commands: list[float] = []
        well: list[float] = []
        for _ in range(ROUNDS):
            well.append(_answer(_variables(database.url, site, {}), running.home, 200))
            for fault in FAULTS:
                with ExitStack() as stack:
                    variables = _behind_proxies(stack, database.url, site, fault)
                    in_process[fault].append(_answer(variables, running.home, 503))
                    if fault == "black_hole":
                        commands.append(_command(variables, running.home))
    everything = [seconds for each in in_process.values() for seconds in each]
    samples: Any = {"in process": in_process, "command": commands, "well": well}
    _report(
        "function health, all three away in each of six ways, longest", max(everything), samples
    )
    _report("function health, all three black-holed, p95", percentile(in_process["black_hole"], 95), samples)  # fmt: skip
    _report("runbook function health (the whole command), all three black-holed, longest", max(commands), samples)  # fmt: skip
    report("function health, all well, median", percentile(well, 50), "s", samples=well)


def _report(name: str, seconds: float, samples: Any) -> None:
    report(name, seconds, "s", bar=f"≤ {BAR_SECONDS:g} s", met=seconds <= BAR_SECONDS, samples=samples)  # fmt: skip


def _behind_proxies(
    stack: ExitStack, url: str, site: sandbox.Sandbox, fault: str
) -> dict[str, str]:
    """Every dependency behind a proxy of its own that is at fault already."""
    ports = {}
    for name, address in (("database", url), ("openai", site.url), ("wordpress", site.url)):
        parts = urlsplit(address)
        proxy = stack.enter_context(NetworkProxy(str(parts.hostname), int(parts.port or 0)))
        proxy.set_fault(fault)
        ports[name] = proxy.port
    return _variables(url, site, ports)


def _variables(url: str, site: sandbox.Sandbox, ports: dict[str, int]) -> dict[str, str]:
    return {
        "DATABASE_URL": _through(url, ports.get("database")),
        "OPENAI_API_KEY": site.openai_api_key,
        "OPENAI_BASE_URL": f"{_through(site.url, ports.get('openai'))}/v1",
        "WORDPRESS_URL": _through(site.url, ports.get("wordpress")),
        "WORDPRESS_USER": site.wordpress_user,
        "WORDPRESS_APP_PASSWORD": site.wordpress_app_password,
    }


def _through(address: str, port: int | None) -> str:
    if port is None:
        return address
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{port}")))


def _answer(variables: dict[str, str], home: Path, expected: int) -> float:
    named = {name.lower(): value for name, value in variables.items()}
    settings = Settings(runbook_home=home, **named)  # type: ignore[arg-type]
    with open_context(settings, require_schema=False) as context:
        begun = time.monotonic()
        answer = call("health", None, method="GET", context=context, actor="benchmark")
        seconds = time.monotonic() - begun
    critical = {check["part"] if "part" in check else check["name"].split(".")[0] for check in answer.body["checks"] if check["verdict"] == "critical"}  # fmt: skip
    if (
        answer.status == 503
        and expected == 503
        and not {"database", "openai", "wordpress"} <= critical
    ):
        raise AssertionError(f"health did not name what is away, only {sorted(critical)}")
    if expected == 503 and answer.status != 503:
        raise AssertionError(f"health answered {answer.status} with everything away")
    return seconds


def _command(variables: dict[str, str], home: Path) -> float:
    begun = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-m", "runbook_lib.cli", "function", "health", "--json"],
        cwd=PROJECT_DIRECTORY,
        env={**environment_without_callers(home), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - begun
    if answer.returncode != 1 or json.loads(answer.stdout)["status"] != "critical":
        raise AssertionError(f"health ended with {answer.returncode}: {answer.stdout[:300]}{answer.stderr[:300]}")  # fmt: skip
    return seconds


if __name__ == "__main__":
    main()
