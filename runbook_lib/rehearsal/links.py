"""TCP proxies of ours between a scene's workers and what they call: where networks are made to fail.

Whoever looks goes the same ways as the workers; whoever stages goes straight to the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from runbook_lib.rehearsal.scene import Scene
from runbook_lib.sandbox.proxy import NetworkProxy

DATABASE, OPENAI, WORDPRESS = "database", "openai", "wordpress"
EVERYTHING = (DATABASE, OPENAI, WORDPRESS)


@contextmanager
def linked(scene: Scene, *names: str) -> Iterator[Mapping[str, NetworkProxy]]:
    """A proxy in front of each of these, for the workers that start from now on and for whoever looks."""
    with ExitStack() as stack:
        proxies = {}
        for name in names:
            url = _address(scene, name)
            parts = urlsplit(url)
            proxy = stack.enter_context(NetworkProxy(parts.hostname or "", parts.port or 0))
            _move(scene, name, _through(url, proxy))
            proxies[name] = proxy
        try:
            yield proxies
        finally:
            # What hangs goes on, so that whoever worked through it can end in order.
            for proxy in proxies.values():
                proxy.clear_fault()


def _address(scene: Scene, name: str) -> str:
    if name == DATABASE:
        return scene.database.url
    found = scene.settings.openai_base_url if name == OPENAI else scene.settings.wordpress_url
    assert found is not None
    return str(found)


def _through(url: str, proxy: NetworkProxy) -> str:
    parts = urlsplit(url)
    before = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{before[0]}{before[1]}127.0.0.1:{proxy.port}"))


def _move(scene: Scene, name: str, url: str) -> None:
    if name == DATABASE:
        scene.move(database_url=SecretStr(url))
    elif name == OPENAI:
        scene.move(openai_base_url=url)
    else:
        scene.move(wordpress_url=url)
