"""What WordPress does to text: slugs, the HTML filter for authors, and how raw text is rendered."""

from __future__ import annotations

import html
import re
import unicodedata
from urllib.parse import quote

LONGEST_SLUG_CHARACTERS = 200
EXCERPT_WORDS = 55
EXCERPT_SOURCE_CHARACTERS = 20_000

_ENTITY = re.compile(r"&(?!(?:[a-zA-Z][a-zA-Z0-9]{1,31}|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});)")
_MARKUP = re.compile(r"<!--.*?-->|<!--.*\Z|</?[a-zA-Z][^<>]*>|<|>", re.DOTALL)
_TAG = re.compile(
    r"<\s*(?P<slash>/?)\s*(?P<name>[a-zA-Z][\w-]*)(?P<attributes>[^>]*?)(?P<closed>\s*/)?>",
    re.DOTALL,
)
_ATTRIBUTE = re.compile(r"""([a-zA-Z_:][\w:.-]*)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+))?""")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_GLOBAL_ATTRIBUTES = _words(
    "class id style title role dir lang hidden align aria-label aria-hidden aria-describedby"
)
# What `wp_kses_post` lets an author write, with the attributes beyond the global ones.
_ALLOWED: dict[str, frozenset[str]] = {
    **{name: frozenset() for name in _words("abbr acronym address article aside b big center cite code dd dfn dl dt em fieldset figcaption figure footer h1 h2 h3 h4 h5 h6 header hr i kbd li main mark nav p pre s samp section small span strike strong sub summary sup tt u var div br caption rp rt ruby")},
    "a": _words("href rel rev name target download"),
    "blockquote": frozenset(("cite",)),
    "q": frozenset(("cite",)),
    "del": frozenset(("datetime",)),
    "ins": frozenset(("datetime", "cite")),
    "details": frozenset(("open",)),
    "img": _words("alt border height hspace loading longdesc src usemap vspace width"),
    "ul": frozenset(("type",)),
    "ol": frozenset(("start", "type", "reversed")),
    "table": _words("bgcolor border cellpadding cellspacing rules summary width"),
    **{name: _words("bgcolor char charoff valign colspan rowspan headers scope height width nowrap abbr axis span") for name in _words("col colgroup tbody td tfoot th thead tr")},
    "audio": _words("autoplay controls loop muted preload src"),
    "video": _words("autoplay controls height loop muted playsinline poster preload src width"),
    "track": _words("default kind label src srclang"),
    "font": frozenset(("color", "face", "size")),
    "button": frozenset(("disabled", "name", "type", "value")),
    "label": frozenset(("for",)),
    "legend": frozenset(),
    "time": frozenset(("datetime",)),
}  # fmt: skip
_ADDRESS_ATTRIBUTES = ("href", "src", "cite", "longdesc", "poster", "usemap")
_ALLOWED_SCHEMES = ("http", "https", "ftp", "ftps", "mailto", "news", "irc", "feed", "telnet", "tel", "sms", "webcal", "xmpp", "urn")  # fmt: skip
_OUTER_BLOCKS = "address|article|aside|blockquote|center|details|div|dl|fieldset|figure|footer|form|h[1-6]|header|hr|main|menu|nav|ol|p|section|table|ul"
_INNER_BLOCKS = "caption|dd|dt|figcaption|legend|li|map|summary|tbody|td|tfoot|th|thead|tr"
_BLOCK = re.compile(rf"<(/?)(?:{_OUTER_BLOCKS})\b[^>]*>", re.IGNORECASE)
_ANY_BLOCK = re.compile(rf"</?(?:{_OUTER_BLOCKS}|{_INNER_BLOCKS})\b", re.IGNORECASE)
_KEPT_WHOLE = re.compile(r"<(pre|script|style|textarea)\b.*?</\1>", re.IGNORECASE | re.DOTALL)


def slug_of(text: str) -> str:
    """The slug that WordPress makes of a title (its `sanitize_title`)."""
    text = re.sub(r"<[^>]*>", "", text)
    text = "".join(_without_accent(character) for character in text).lower()
    text = re.sub(r"&[^;\s]{1,32};", "", text)
    text = re.sub(r"[\u00a0–—/.]", "-", text).replace("×", "x")
    text = "".join(
        each for each in text if each in "-_ \t\n" or each.isalnum() or _is_letter_part(each)
    )
    text = re.sub(r"[\s-]+", "-", text).strip("-")
    return cut_slug(quote(text, safe="-_").lower())


def _is_letter_part(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc", "So")


def _without_accent(character: str) -> str:
    special = {"ß": "ss", "æ": "ae", "ø": "o", "œ": "oe", "ł": "l", "đ": "d", "þ": "th", "ð": "d"}
    if character in special:
        return special[character]
    plain = unicodedata.normalize("NFKD", character)
    return plain[0] if len(plain) > 1 and plain[0].isascii() else character


def cut_slug(slug: str, characters: int = LONGEST_SLUG_CHARACTERS) -> str:
    """A slug within a length, without a torn percent escape."""
    slug = slug[:characters]
    return re.sub(r"%[0-9a-f]?$", "", slug).rstrip("-")


def filter_html(text: str) -> str:
    """What is left of HTML that an author without `unfiltered_html` sends: tags go, their text stays."""
    pieces, at = [], 0
    text = text.replace("\x00", "")
    for found in _MARKUP.finditer(text):
        pieces.append(escape_lone_ampersands(text[at : found.start()]))
        pieces.append(_filter_markup(found[0]))
        at = found.end()
    pieces.append(escape_lone_ampersands(text[at:]))
    return "".join(pieces)


def _filter_markup(markup: str) -> str:
    if markup in ("<", ">"):
        return html.escape(markup)
    if markup.startswith("<!--"):
        return markup if markup.endswith("-->") else ""
    tag = _TAG.fullmatch(markup)
    allowed = _ALLOWED.get(tag["name"].lower()) if tag else None
    if tag is None or allowed is None:
        return ""
    if tag["slash"]:
        return f"</{tag['name']}>"
    attributes = "".join(_filter_attributes(tag["attributes"], allowed))
    return f"<{tag['name']}{attributes}{' /' if tag['closed'] else ''}>"


def _filter_attributes(text: str, allowed: frozenset[str]) -> list[str]:
    kept = []
    for name, quoted in _ATTRIBUTE.findall(text):
        lower = name.lower()
        if (
            lower not in allowed
            and lower not in _GLOBAL_ATTRIBUTES
            and not lower.startswith("data-")
        ):
            continue
        value = quoted.strip("\"'")
        if lower in _ADDRESS_ATTRIBUTES:
            value = _safe_address(value)
        kept.append(f' {name}="{escape_lone_ampersands(value)}"' if quoted else f" {name}")
    return kept


def _safe_address(address: str) -> str:
    scheme, colon, rest = html.unescape(address).partition(":")
    if not colon or "/" in scheme or "?" in scheme or "#" in scheme:
        return address
    plain = re.sub(r"[\s\x00-\x1f]", "", scheme).lower()
    return address if plain in _ALLOWED_SCHEMES else rest


def escape_lone_ampersands(text: str) -> str:
    return _ENTITY.sub("&amp;", text)


def render_content(raw: str) -> str:
    """How content looks on the page: paragraphs where there were blank lines, unless it is made of blocks."""
    raw = re.sub(r"<img (?![^>]*decoding=)", '<img decoding="async" ', raw)
    if "<!-- wp:" in raw:
        return curl(re.sub(r"<!-- /?wp:.*?-->", "", raw, flags=re.DOTALL).strip())
    return curl(add_paragraphs(raw))


def render_excerpt(raw: str, content: str) -> str:
    """The excerpt's paragraph; made of the content's first words when there is none."""
    if raw:
        return add_paragraphs(curl(raw))
    words = html_to_text(render_content(content[:EXCERPT_SOURCE_CHARACTERS])).split()
    if not words:
        return ""
    text = " ".join(words[:EXCERPT_WORDS]) + (" [&hellip;]" if len(words) > EXCERPT_WORDS else "")
    return f"<p>{text}</p>\n"


def html_to_text(markup: str) -> str:
    return re.sub(r"<[^>]*>", " ", re.sub(r"(?is)<(script|style)\b.*?</\1>", " ", markup))


def add_paragraphs(text: str) -> str:
    """Blank lines become paragraphs and other line ends breaks; block elements stay by themselves."""
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"\n\n\x00{len(kept) - 1}\x00\n\n"

    text = _KEPT_WHOLE.sub(keep, text.replace("\r\n", "\n").replace("\x00", ""))
    text = _BLOCK.sub(lambda found: f"{found[0]}\n\n" if found[1] else f"\n\n{found[0]}", text)
    pieces, inside = [], False
    for piece in filter(None, (each.strip("\n ") for each in re.split(r"\n\s*\n", text))):
        plain = not inside and not piece.startswith("\x00") and not _ANY_BLOCK.match(piece)
        broken = re.sub(r" *\n", "<br />\n", piece)
        pieces.append(f"<p>{broken}</p>" if plain else piece)
        inside = (inside or piece.startswith("<p")) and not piece.endswith("</p>")
    rendered = "".join(f"{piece}\n" for piece in pieces)
    return re.sub(r"\x00(\d+)\x00", lambda found: kept[int(found[1])], rendered)


def curl(text: str) -> str:
    """Straight quotes, dashes and dots as typographic entities, outside tags and code."""
    out, code = [], 0
    for piece in re.split(r"(<[^>]*>)", text):
        if piece.startswith("<"):
            if opened := re.match(r"<(/?)(pre|code|kbd|style|script|tt)\b", piece, re.IGNORECASE):
                code = max(0, code + (-1 if opened[1] else 1))
            out.append(piece)
        else:
            out.append(piece if code or not _STRAIGHT.search(piece) else _curl_text(piece))
    return "".join(out)


_STRAIGHT = re.compile(r"""['"&]|--|\.\.\.| - """)


def _curl_text(text: str) -> str:
    text = re.sub(r"(?<=\w)'(?=\w)|(?<=\w)'", "&#8217;", text).replace("...", "&#8230;")
    text = re.sub(r"(^|[\s(\[{—-])'", r"\1&#8216;", text)
    text = re.sub(r'(^|[\s(\[{—-])"', r"\1&#8220;", text).replace('"', "&#8221;")
    text = text.replace("---", "&#8212;").replace(" -- ", " &#8212; ").replace("--", "&#8211;")
    text = text.replace(" - ", " &#8211; ")
    return _ENTITY.sub("&#038;", text)
