"""What a reader sees of a post's HTML, a block a line, as `rendering.visible_text` gives it for Markdown."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "br",
        "dd",
        "div",
        "dl",
        "dt",
        "figcaption",
        "figure",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "footer",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "section",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
# Their text is not prose: repeated lines of code are no repetition.
_NOT_PROSE = frozenset({"script", "style", "pre", "code", "textarea", "template"})
_MEDIA = frozenset({"img", "video", "audio", "iframe", "picture", "svg", "embed", "object"})


class PostText(HTMLParser):
    """The blocks of a post: `lines` of text, `paragraphs` among them, and whether it shows pictures."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = []
        self.paragraphs: list[str] = []
        self.has_media = False
        self._words: list[str] = []
        self._inside: list[str] = []
        self._in_paragraph = False
        self.feed(content)
        self.close()
        self._end_block()

    @property
    def prose(self) -> str:
        return "\n".join(self.lines)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.has_media = self.has_media or tag in _MEDIA
        if tag in _NOT_PROSE:
            self._inside.append(tag)
        if tag in _BLOCKS:
            self._end_block()
            self._in_paragraph = tag == "p"

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()
        if tag in _BLOCKS:
            self._end_block()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self._words.append(data)

    def _end_block(self) -> None:
        if text := re.sub(r"\s+", " ", "".join(self._words)).strip():
            self.lines.append(text)
            if self._in_paragraph:
                self.paragraphs.append(text)
        self._words.clear()
        self._in_paragraph = False
