"""Fifty bad posts among healthy ones, live on a real WordPress: found, taken off, brought back.

`make bench NAME=bad_posts`. It runs on the WordPress that the tests start (PHP, and the package the first time).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from benchmarks import scratch
from benchmarks.figures import report
from benchmarks.published_scene import KINDS, PublishedScene
from runbook_lib import changes
from runbook_lib.health.sources import Sources
from runbook_lib.maintenance.content_review import content_review
from runbook_lib.pipeline import posts
from runbook_lib.pipeline.wordpress import WordPressClient
from runbook_lib.settings import PROJECT_DIRECTORY

BAD, HEALTHY = 50, 150


def main(bad: int = BAD, healthy: int = HEALTHY) -> None:
    sys.path.insert(0, str(PROJECT_DIRECTORY / "tests"))
    from wordpress_site import installed_template, make_site

    with tempfile.TemporaryDirectory() as directory, scratch.server() as postgres:
        database = postgres.new_database()
        server = make_site(installed_template(), Path(directory) / "site")
        site = WordPressClient(server.url, "author", lambda: server.passwords["author"])
        scene = PublishedScene(database, site)
        for kind in (posts.Unpublish, posts.Restore):
            changes.register(kind(scene.open_site))
        try:
            _measure(scene, bad, healthy)
        finally:
            site.close()
            server.stop()


def _measure(scene: PublishedScene, bad: int, healthy: int) -> None:
    for number in range(max(bad, healthy)):
        if number < healthy:
            scene.add_healthy()
        if number < bad:
            scene.add_bad(KINDS[number % len(KINDS)])
    began = time.monotonic()
    review = content_review(Sources(scene.database, scene.database), days=3, open_site=scene.open_site)  # fmt: skip
    looked = time.monotonic() - began
    plan = changes.plan(scene.database, "posts.unpublish", review.to_unpublish(), actor="benchmark")
    previewed = {post.post_id for post in review.bad_posts}
    accused = len(previewed - scene.bad.keys())
    report(
        "bad posts previewed", plan.row_count, "posts", bar=f"exactly these {bad}, no healthy one",
        met=previewed == scene.bad.keys() and plan.row_count == bad,
        samples={"kinds": sorted(scene.bad.values()), "healthy": len(scene.healthy), "accused": accused},
    )  # fmt: skip
    report("healthy posts accused", accused, "posts", bar="0", met=not accused)
    report("time to review", looked, "s", samples={"posts": len(scene.healthy) + bad})
    _apply(scene, plan.change_id, "draft", f"all {bad} are drafts after apply")
    undo = changes.plan_undo(scene.database, plan.change_id, actor="benchmark")
    _apply(scene, undo.change_id, "publish", f"all {bad} are published after undo")


def _apply(scene: PublishedScene, change_id: str, status: str, bar: str) -> None:
    began = time.monotonic()
    result = changes.apply(scene.database, change_id, actor="benchmark", dry_run=False)
    seconds = time.monotonic() - began
    stand = scene.statuses(list(scene.bad))
    untouched = scene.statuses(scene.healthy)
    right = sum(found == status for found in stand.values())
    met = right == len(scene.bad) == result.changed and set(untouched.values()) <= {"publish"}
    report(f"bad posts that became {status}", right, "posts", bar=bar, met=met, samples={"seconds": seconds, "result": result.status})  # fmt: skip


if __name__ == "__main__":
    main()
