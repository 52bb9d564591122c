"""Characters that nobody sees: control codes, marks that turn the writing direction, tags, half characters.

They can hide a text from the people who look at it, PostgreSQL takes some of them not at all, and
WordPress drops some without a word.
"""

from __future__ import annotations

import re

_HIDDEN = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff"
    r"\ud800-\udfff\ufff9-\ufffb\uffff\ufffe\U000e0000-\U000e0fff]"
)


def without_hidden(text: str) -> str:
    """The text without characters that nobody sees; tabs and line ends stay."""
    return _HIDDEN.sub("", text)


def visible(text: str) -> str:
    """As `without_hidden`, and without white space around it."""
    return without_hidden(text).strip()
