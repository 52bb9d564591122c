"""An executed notebook as one HTML page that is safe to open and needs nothing from outside.

nbconvert's own pages keep `<script>` and `javascript:` links from outputs unless told otherwise, and
load MathJax and require.js from a public server. Here nbconvert makes the body, nh3 keeps only what
is on its list, and the page around it is ours: no script, no address to load from, and a content
security policy that allows neither.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.archive.notebook_files import skip_unused_parsers

if TYPE_CHECKING:
    import nbformat

_FILES = Path(__file__).parent
_PICTURE = re.compile(r"data:image/(?:png|jpeg|gif|svg\+xml);base64,[A-Za-z0-9+/=\s]+")
_IMAGE_WITHOUT_WORDS = re.compile(r"<img(?=\s)(?![^>]*\salt=)", re.IGNORECASE)
_LINK = re.compile(r"(?i)(?:https?://|mailto:)")
_TAGS = frozenset(
    [
        "a",
        "b",
        "blockquote",
        "br",
        "caption",
        "cite",
        "code",
        "col",
        "colgroup",
        "dd",
        "del",
        "details",
        "div",
        "dl",
        "dt",
        "em",
        "figcaption",
        "figure",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "ins",
        "kbd",
        "li",
        "mark",
        "ol",
        "p",
        "pre",
        "q",
        "s",
        "samp",
        "small",
        "span",
        "strong",
        "sub",
        "summary",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "u",
        "ul",
        "var",
    ]
)
_ATTRIBUTES = {
    "*": {"class", "title"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "td": {"colspan", "rowspan", "data-label"},
    "th": {"colspan", "rowspan", "scope"},
}


@dataclass(frozen=True)
class Page:
    """What stands above the notebook: the answer first, then where it comes from.

    `badge` is a verdict or a status; `facts` are pairs of a label and a value.
    """

    title: str
    badge: str
    summary: str = ""
    notice: str = ""
    facts: tuple[tuple[str, str], ...] = field(default=())


def render(notebook: nbformat.NotebookNode, page: Page) -> bytes:
    """The notebook as a page. Everything in it is escaped or sanitised."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    style = _style()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{_digest(style)}'; base-uri 'none'; form-action 'none'"
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        (_FILES / "page.html.j2").read_text("utf-8")
    )
    text = template.render(
        page=page, policy=policy, style=Markup(style), body=Markup(_body(notebook))
    )
    return text.encode("utf-8", "replace")


def warm() -> None:
    """Loads what pages are made with, so that the first one costs what each costs."""
    import nbformat

    _style()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("*warm*"),
                                               nbformat.v4.new_code_cell("1")])  # fmt: skip
    render(notebook, Page("", ""))


def _body(notebook: Any) -> str:
    body, _ = _exporter().from_notebook_node(notebook)
    return _sanitised(_IMAGE_WITHOUT_WORDS.sub('<img alt="A picture without a description"', _without_styles(body)))  # fmt: skip


@cache
def _exporter() -> Any:
    # Made once: reading its templates costs more than a page.
    skip_unused_parsers()
    from nbconvert import HTMLExporter
    from nbconvert.exporters import TemplateExporter
    from nbconvert.filters import Highlight2HTML
    from nbconvert.filters.widgetsdatatypefilter import WidgetsDataTypeFilter

    class BodyExporter(HTMLExporter):
        """nbconvert's, without what nh3 and this module do again: three quarters of a page's time went
        into parsing it in Python, once for each cell and once as a whole."""

        def from_notebook_node(  # type: ignore[override]
            self, nb: Any, resources: dict[str, Any] | None = None, **more: Any
        ) -> tuple[str, dict[str, Any]]:
            resources = self._init_resources(resources)
            self.register_filter(
                "highlight_code", Highlight2HTML(pygments_lexer="ipython3", parent=self)
            )
            self.register_filter(
                "filter_data_type",
                WidgetsDataTypeFilter(notebook_metadata={}, parent=self, resources=resources),
            )
            self.register_filter("clean_html", lambda element: element)
            # What stands between this class and HTMLExporter only parses the finished page again.
            return TemplateExporter.from_notebook_node(self, nb, resources, **more)

        def _preprocess(self, nb: Any, resources: Any) -> tuple[Any, Any]:
            return nb, resources

    return BodyExporter(
        template_name="basic", exclude_anchor_links=True, exclude_input_prompt=True,
        exclude_output_prompt=True,
    )  # fmt: skip


def _without_styles(body: str) -> str:
    # pandas puts a <style> in front of each table; nh3 drops the tag, this also drops its text early.
    return re.sub(r"(?is)<style\b.*?</style\s*>", "", body)


def _sanitised(body: str) -> str:
    import nh3

    return nh3.clean(
        body,
        tags=set(_TAGS),
        clean_content_tags={"script", "style", "iframe", "object", "noscript", "template"},
        attributes={tag: set(names) for tag, names in _ATTRIBUTES.items()},
        attribute_filter=_allowed_attribute,
        url_schemes={"http", "https", "mailto", "data"},
        link_rel="noopener noreferrer",
    )


def _allowed_attribute(tag: str, name: str, value: str) -> str | None:
    # A picture is data, and a link is none: data: links run as pages of their own.
    if tag == "img" and name == "src":
        return value if _PICTURE.fullmatch(value) else None
    if tag == "a" and name == "href":
        return value if _LINK.match(value) else None
    return value


@cache
def _style() -> str:
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="friendly").get_style_defs(".highlight")
    dark = HtmlFormatter(style="github-dark").get_style_defs(".highlight")
    ours = (_FILES / "page.css").read_text("utf-8")
    return f"\n{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}\n{ours}"


def _digest(style: str) -> str:
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
