"""Whether a job has two posts at the site, by the mark that each post carries."""

from __future__ import annotations

import re
from collections import Counter

from runbook_lib.sandbox.control import SandboxControl

_MARK = re.compile(r"runbook-job:([0-9a-f-]{36})")


def doubled_posts(site: SandboxControl) -> dict[str, int]:
    """Jobs with more than one published post, and how many they have."""
    marks = Counter(
        mark
        for post in site.posts()
        if post["status"] == "publish"
        for mark in set(_MARK.findall(str(post["content"])))
    )
    return {mark: count for mark, count in marks.items() if count > 1}
