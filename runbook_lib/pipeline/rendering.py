"""An article's Markdown as HTML that is safe to publish, and its title, excerpt and tags as plain text.

What a model wrote is nobody's text until it has been here: HTML in it is shown, not run; only an
allow-list of tags leaves; WordPress's own markup (shortcodes, block comments, embedding of bare
addresses) is made inert. Headings begin at h2, since the post's title is the h1. Images are replaced by
their description, since a model makes their addresses up. Links carry `rel="nofollow noopener"`: nobody
vouched for them. Relative links go, since they would point into a site that the model never saw.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from runbook_lib.pipeline.hidden_characters import without_hidden

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it import MarkdownIt
    from markdown_it.token import Token

LONGEST_TITLE_CHARACTERS = 200
LONGEST_EXCERPT_CHARACTERS = 400
LONGEST_TAG_CHARACTERS = 50

_TAGS = {
    *("p", "br", "hr", "h2", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li"),
    *("strong", "em", "del", "s", "code", "pre", "a"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}
_ATTRIBUTES = {
    "a": {"href", "title"},
    "code": {"class"},
    "ol": {"start"},
    "th": {"style"},
    "td": {"style"},
}
_SCHEMES = {"http", "https", "mailto"}
_ABSOLUTE = ("http://", "https://", "mailto:")
_LANGUAGE_CLASS = re.compile(r"language-[\w+#.-]{1,30}")
# Not `&#91;`: WordPress turns exactly that back into a bracket after running shortcodes, and a plugin
# may run them again. `&#091;` is also the form that its HTML filter writes.
_BRACKETS = str.maketrans({"[": "&#091;", "]": "&#093;"})
# An address at the start of a line or paragraph is what WordPress replaces by an embedded page.
_BARE_ADDRESS = re.compile(r"(^|[\s>])(https?):(?=//)", re.IGNORECASE | re.MULTILINE)
_TAG = re.compile(r"<[A-Za-z/!?][^<>]*>")
_TAG_OPENING = re.compile(r"<+(?=[A-Za-z/!?])")
_LABEL = re.compile(r"^\W*(title|headline|excerpt|summary|tags?)\s*:\s*", re.IGNORECASE)
_QUOTES = "\"'“”„‟«»‹›‘’"
_HEADING = re.compile(r"\s{0,3}(#{1,6})\s+(?P<text>.+?)\s*#*\s*$")
_UNDERLINE = re.compile(r"\s{0,3}(=+|-+)\s*$")


def to_html(markdown: str, title: str = "") -> str:
    """The HTML of an article's body; a first heading that repeats `title` is left out."""
    import nh3

    source = without_hidden(without_title(markdown, title) if title else markdown)
    safe = nh3.clean(
        _parser().render(source),
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        attribute_filter=_filter_attribute,
        filter_style_properties={"text-align"},
        url_schemes=_SCHEMES,
        url_relative="deny",
        link_rel="nofollow noopener",
        strip_comments=True,
    )
    return _BARE_ADDRESS.sub(r"\1\2&#058;", safe.translate(_BRACKETS))


def plain_title(text: str) -> str:
    """A title: one line without HTML, Markdown, shortcodes, label or quotation marks around it."""
    title = _LABEL.sub("", _plain(text, LONGEST_TITLE_CHARACTERS)).lstrip("#> ")
    quoted = len(title) > 2 and title[0] in _QUOTES and title[-1] in _QUOTES
    if quoted and not any(mark in _QUOTES[:2] for mark in title[1:-1]):
        title = title[1:-1].strip()
    return title


def plain_excerpt(text: str) -> str:
    """An excerpt: one line without HTML, Markdown, shortcodes or label."""
    return _LABEL.sub("", _plain(text, LONGEST_EXCERPT_CHARACTERS))


def plain_tag(text: str) -> str:
    """A tag's name: one short line; a leading # and commas, which separate tags, are gone."""
    return _plain(text.replace(",", " ").lstrip("# "), LONGEST_TAG_CHARACTERS).strip(" #.;:")


def without_title(markdown: str, title: str) -> str:
    """The Markdown without a first heading that says the same as the title."""
    lines = markdown.lstrip().split("\n")
    heading = _HEADING.match(lines[0])
    underlined = len(lines) > 1 and _UNDERLINE.match(lines[1]) is not None
    bold = lines[0].strip().startswith("**") and lines[0].strip().endswith("**")
    first = heading["text"] if heading else lines[0]
    if not (heading or underlined or bold) or _compared(first) != _compared(title):
        return markdown
    return "\n".join(lines[2 if underlined and not heading else 1 :]).lstrip("\n")


def first_heading(markdown: str) -> str:
    """The text of the first heading at the beginning of the article, or an empty string."""
    lines = markdown.lstrip().split("\n")
    if heading := _HEADING.match(lines[0]):
        return str(heading["text"])
    if len(lines) > 1 and _UNDERLINE.match(lines[1]):
        return lines[0]
    bold = re.fullmatch(r"\*\*([^*]+)\*\*", lines[0].strip())
    return bold[1] if bold else ""


def first_paragraph(markdown: str) -> str:
    """The text of the first paragraph that stands in no list or quotation, or an empty string."""
    inside = False
    for token in _parser().parse(markdown):
        if token.type == "paragraph_open":
            inside = token.level == 0
        elif token.type == "inline" and inside:
            return _inline_text(token.children or (), with_code=True)
    return ""


def visible_text(markdown: str, *, with_code: bool = True) -> str:
    """What a reader sees of an article's Markdown, a block a line."""
    pieces: list[str] = []
    for token in _parser().parse(markdown):
        if token.type in ("fence", "code_block") and with_code:
            pieces.append(token.content)
        if token.type == "inline":
            pieces.append(_inline_text(token.children or (), with_code))
    return "\n".join(pieces)


def _inline_text(tokens: Sequence[Token], with_code: bool) -> str:
    found = []
    for token in tokens:
        if token.type in ("softbreak", "hardbreak"):
            found.append(" ")
        elif token.type != "code_inline" or with_code:
            found.append(token.content)
    return "".join(found)


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.core.ruler.push("headings_below_title", _headings_below_title)
    parser.core.ruler.push("without_relative_links", _without_relative_links)
    parser.add_render_rule("image", _image_as_text)
    # Its rules are compiled by the first use, and not safely so for threads: so before it is shared.
    parser.render("# a\n\n*b*")
    return parser


def _headings_below_title(state: Any) -> None:
    for token in state.tokens:
        if token.tag == "h1":
            token.tag = "h2"


def _without_relative_links(state: Any) -> None:
    for token in state.tokens:
        kept: list[Token] = []
        dropped: list[bool] = []
        for child in token.children or ():
            if child.type == "link_open":
                dropped.append(not str(child.attrGet("href")).lower().startswith(_ABSOLUTE))
                if dropped[-1]:
                    continue
            if child.type == "link_close" and dropped.pop():
                continue
            kept.append(child)
        if token.children:
            token.children = kept


def _image_as_text(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    return html.escape(tokens[index].content)


def _filter_attribute(tag: str, name: str, value: str) -> str | None:
    if tag == "code" and name == "class":
        return value if _LANGUAGE_CLASS.fullmatch(value) else None
    return value


def _plain(text: str, longest: int) -> str:
    import nh3

    # Twice as long as needed is enough to cut from, and keeps a megabyte of "title" cheap.
    one_line = " ".join(without_hidden(text[: longest * 4]).split()).lstrip("#> ").strip()
    shown = html.unescape(nh3.clean(_parser().renderInline(one_line), tags=set()))
    while (shorter := _TAG.sub("", shown)) != shown:
        shown = shorter
    shown = _TAG_OPENING.sub("", shown).translate(str.maketrans("[]", "()"))
    return _cut(" ".join(shown.split()).strip("*` ").strip(), longest)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    cut = text[: longest - 1]
    return f"{cut.rsplit(' ', 1)[0] if ' ' in cut else cut}…"


def _compared(title: str) -> str:
    return re.sub(r"[\W_]+", " ", plain_title(title)).strip().casefold()
