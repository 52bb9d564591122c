"""What a model wrote becomes HTML in which nothing is live, and plain text where only text belongs."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
import requests

# html5lib parses as browsers do, repairs included; bleach carries it.
from bleach._vendor import html5lib
from wordpress_site import WordPressSite

from runbook_lib.deadlines import Deadline
from runbook_lib.pipeline import rendering
from runbook_lib.pipeline.post_comparison import PostRequest, differences
from runbook_lib.pipeline.rendering import (
    first_heading,
    plain_excerpt,
    plain_tag,
    plain_title,
    to_html,
    visible_text,
    without_title,
)
from runbook_lib.pipeline.wordpress import WordPressClient

ALLOWED_TAGS = {
    *("p", "br", "hr", "h2", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li", "strong"),
    *("em", "del", "s", "code", "pre", "a", "table", "thead", "tbody", "tr", "th", "td"),
}
ALLOWED_ATTRIBUTES = {"href", "title", "rel", "class", "start", "style"}

PAYLOADS = [
    # scripts
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<script\n>alert(1)</script\n>",
    "<script/x>alert(1)</script>",
    "<<script>alert(1);//<</script>",
    "</p><script>alert(1)</script><p>",
    "`<script>alert(1)</script>`",
    "```\n<script>alert(1)</script>\n```",
    "```html\"><script>alert(1)</script>\nx\n```",
    "~~~<img/src/onerror=alert(1)>\nx\n~~~",
    "    <script>alert(1)</script>",
    # event handlers
    "<img src=x onerror=alert(1)>",
    "<img src=x onerror=\"alert(1)\"",
    "<img/src=`x`onerror=alert(1)>",
    "<body onload=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<marquee onstart=alert(1)>",
    "<a onmouseover=alert(1)>x</a>",
    "<p style=\"animation:x\" onanimationstart=\"alert(1)\">",
    # other documents and objects
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<form action=javascript:alert(1)><button>x</button></form>",
    "<video poster=javascript:alert(1)><source onerror=alert(1)></video>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
    # other name spaces
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><a xlink:href=javascript:alert(1)><text>x</text></a></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></table></mtext></math>",
    "<math href=javascript:alert(1)>x</math>",
    # links and images in Markdown
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](javascript&colon;alert(1))",
    "[x](java&#x0A;script:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](\x01javascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](<javascript:alert(1)>)",
    "[x]: javascript:alert(1)\n\n[x]",
    "<javascript:alert(1)>",
    "[x](//evil.example)",
    "[x](/wp-admin/post.php?action=trash)",
    "[x](file:///etc/passwd)",
    "[x](https://e.example 'a\" onmouseover=\"alert(1)')",
    "[x](https://e.example/\" onmouseover=\"alert(1))",
    "[x](https://e.example/'onmouseover='alert(1))",
    "![x](javascript:alert(1))",
    "![x](https://evil.example/track.gif)",
    "![\"><script>alert(1)</script>](x)",
    "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9YWxlcnQoMSk+)",
    "[![x](https://evil.example/x.png)](javascript:alert(1))",
    # entities and odd characters
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "&amp;lt;script&amp;gt;alert(1)",
    "\\<script\\>alert(1)",
    "<\x00script>alert(1)</script>",
    "＜script＞alert(1)＜/script＞",
    # WordPress's own markup
    "[gallery ids=\"1,2\"]",
    "[[gallery]]",
    "\\[gallery\\]",
    "&#91;gallery&#93;",
    "&lbrack;gallery&rbrack;",
    "[embed]https://evil.example[/embed]",
    "`[php]phpinfo();[/php]`",
    "```\n[contact-form-7 id=1]\n```",
    "[x](https://e.example/[gallery])",
    "[x](https://e.example \"[gallery]\")",
    "<!-- wp:html --><script>alert(1)</script><!-- /wp:html -->",
    "<!-- wp:shortcode -->[gallery]<!-- /wp:shortcode -->",
    "<!--nextpage-->",
    "<!--[if IE]><script>alert(1)</script><![endif]-->",
    "<?php system('id'); ?>",
    "<![CDATA[<script>alert(1)</script>]]>",
    "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
    "text\nhttps://evil.example/embed\ntext",
    "- https://evil.example/embed",
    # tables
    "| <script>alert(1)</script> | b |\n|---|---|\n| <img src=x onerror=alert(1)> | [x](javascript:alert(1)) |",
]  # fmt: skip


def live_parts(fragment: str) -> Iterator[str]:
    """Everything in a piece of HTML that a browser or WordPress would act on."""
    for node in html5lib.parseFragment(fragment, namespaceHTMLElements=False).iter():
        yield from _live_parts_of(node)
    if re.search(r"\[\[?/?[A-Za-z0-9_-]", fragment):
        yield "a shortcode"
    if re.search(r"(^|[\s>])https?://", fragment, re.IGNORECASE | re.MULTILINE):
        yield "an address that WordPress embeds"
    if "<!--" in fragment:
        yield "a block comment"


def _live_parts_of(node: Any) -> Iterator[str]:
    if not isinstance(node.tag, str):
        yield "a comment"
        return
    if node.tag not in ALLOWED_TAGS | {"DOCUMENT_FRAGMENT"}:
        yield f"<{node.tag}>"
    yield from _live_attributes(node)


def _live_attributes(node: Any) -> Iterator[str]:
    for name, value in node.attrib.items():
        if str(name) not in ALLOWED_ATTRIBUTES:
            yield f"{node.tag} {name}"
        if name == "href" and not re.match(r"(https?://|mailto:)", value):
            yield f"href {value}"
        if name == "style" and not re.fullmatch(r"text-align:(left|right|center)", value):
            yield f"style {value}"
        if name == "rel" and value != "nofollow noopener":
            yield f"rel {value}"


def test_the_judge_of_these_tests_sees_what_is_live() -> None:
    seen = [list(live_parts(payload)) for payload in PAYLOADS if payload.startswith("<")]
    assert sum(map(bool, seen)) > 35
    assert list(live_parts("[gallery]")) == ["a shortcode"]
    assert list(live_parts("<p>https://a.example</p>")) == ["an address that WordPress embeds"]


def test_there_are_at_least_sixty_payloads() -> None:
    assert len(set(PAYLOADS)) >= 60


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_is_live_in_the_html_of_a_body(payload: str) -> None:
    for markdown in (payload, f"# A\n\ntext {payload} text\n\n- {payload}\n> {payload}"):
        assert list(live_parts(to_html(markdown))) == []


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_is_live_in_a_title_an_excerpt_or_a_tag(payload: str) -> None:
    for text in (plain_title(payload), plain_excerpt(f"An {payload}"), plain_tag(payload)):
        # Escaped, as the publisher sends it; and as it is, should a theme print it so.
        assert not re.search(r"<[A-Za-z/!?]|\[", text)
        assert list(html5lib.parseFragment(html.escape(text)).iter())[1:] == []


def test_html_in_markdown_is_shown_and_not_run() -> None:
    assert to_html("a <b>x</b> <!-- y -->") == "<p>a &lt;b&gt;x&lt;/b&gt; &lt;!-- y --&gt;</p>\n"


def test_running_shortcodes_twice_finds_none() -> None:
    """WordPress ends a run of shortcodes by turning `&#91;` back into a bracket; ours stays."""
    once = to_html("[gallery] and `[php]`").replace("&#91;", "[").replace("&#93;", "]")
    assert "[" not in once


@pytest.mark.parametrize("user", ["author", "editor"])
def test_a_real_wordpress_stores_it_unchanged_and_runs_nothing_of_it(
    wordpress: WordPressSite, user: str
) -> None:
    """An editor may post any HTML; an author's goes through WordPress's own filter."""
    content = "".join(f"<h2>{number}</h2>\n{to_html(each)}" for number, each in enumerate(PAYLOADS))
    client = WordPressClient(wordpress.url, user, lambda: wordpress.passwords[user])
    asked = PostRequest("Payloads", content, "Some.", "payloads", (), ())
    deadline = Deadline.after(60)
    post = client.create_post(asked.draft_fields(), deadline)
    assert differences(asked, post, client.account(deadline).user_id) == []
    client.update_post(post.post_id, {"status": "publish"}, deadline)
    shown = requests.get(f"{wordpress.url}/?rest_route=/wp/v2/posts/{post.post_id}", timeout=60)
    rendered = shown.json()["content"]["rendered"]
    nodes = html5lib.parseFragment(rendered, namespaceHTMLElements=False).iter()
    live = [part for node in nodes for part in _live_parts_of(node)]
    # What WordPress itself adds to every page is not ours.
    assert [part for part in live if part not in ("<img>", "img")] == []
    assert "gallery" in rendered
    assert "<iframe" not in rendered
    assert f"<h2>{len(PAYLOADS) - 1}</h2>" in rendered


def test_brackets_are_still_read_as_brackets() -> None:
    assert "[gallery]" in html.unescape(to_html("Write `[gallery]`."))


def test_markdown_becomes_the_html_that_it_means() -> None:
    markdown = "## Why\n\nIt *is* **so**, ~~not~~ `x`.\n\n1. a\n2. b\n\n> q\n\n| l | r |\n|:--|--:|\n| 1 | 2 |\n\n```python\nprint(1)\n```"
    rendered = to_html(markdown)
    for part in (
        "<h2>Why</h2>",
        "<em>is</em> <strong>so</strong>",
        "<s>not</s> <code>x</code>",
        "<ol>\n<li>a</li>",
        "<blockquote>",
        '<td style="text-align:right">2</td>',
        '<pre><code class="language-python">print(1)',
    ):
        assert part in rendered


def test_a_link_stays_and_nobody_vouches_for_it() -> None:
    assert to_html("[a](https://e.example/?a=1&b=2)") == (
        '<p><a href="https://e.example/?a=1&amp;b=2" rel="nofollow noopener">a</a></p>\n'
    )


def test_a_relative_link_leaves_its_words() -> None:
    assert to_html("see [our *guide*](/guide) now") == "<p>see our <em>guide</em> now</p>\n"


def test_an_image_is_replaced_by_its_description() -> None:
    assert to_html('![a "cat" <b>](https://e.example/c.png)') == '<p>a "cat" &lt;b&gt;</p>\n'


def test_headings_begin_below_the_title() -> None:
    assert (
        to_html("# One\n\nTwo\n===\n\n### Three") == "<h2>One</h2>\n<h2>Two</h2>\n<h3>Three</h3>\n"
    )


@pytest.mark.parametrize(
    "first",
    ["# Ten tips!", "## **Ten tips**", "Ten tips\n========", "**Ten Tips**", "\n\n# ten  tips #"],
)
def test_a_first_heading_that_repeats_the_title_is_left_out(first: str) -> None:
    assert to_html(f"{first}\n\nBody.", "Ten tips") == "<p>Body.</p>\n"


@pytest.mark.parametrize("first", ["# Ten other tips", "Ten tips", "Ten tips are here."])
def test_what_is_not_a_heading_that_repeats_the_title_stays(first: str) -> None:
    assert without_title(f"{first}\n\nBody.", "Ten tips") == f"{first}\n\nBody."


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("  **Ten** *tips*\n for `cats`  ", "Ten tips for cats"),
        ('"Ten tips"', "Ten tips"),
        ("“Ten tips”", "Ten tips"),
        ('"Yes" and "No"', '"Yes" and "No"'),
        ("# Ten tips", "Ten tips"),
        ("Title: Ten tips", "Ten tips"),
        ("Tips &amp; tricks", "Tips & tricks"),
        ("C++ & a < b in 2026 [Guide]", "C++ & a < b in 2026 (Guide)"),
        ("snake_case and 2 * 3 * 4", "snake_case and 2 * 3 * 4"),
        ("[Ten](https://e.example) tips", "Ten tips"),
    ],
)
def test_a_title_is_one_line_of_text(written: str, title: str) -> None:
    assert plain_title(written) == title


def test_what_is_too_long_is_cut_between_words() -> None:
    assert len(plain_title("word " * 1000)) <= 200
    assert plain_excerpt("word " * 1000).endswith("word…")
    assert len(plain_title("x" * 1_000_000)) == 200


def test_a_tag_has_no_comma_since_wordpress_would_make_two_of_it() -> None:
    assert plain_tag("#growth, hacking.") == "growth hacking"


@pytest.mark.parametrize(
    ("markdown", "heading"),
    [
        ("# A *b*\n\nc", "A *b*"),
        ("A\n===\nc", "A"),
        ("**A**\n\nc", "A"),
        ("A c.\n\nd", ""),
        ("", ""),
    ],
)
def test_the_first_heading_is_found_in_each_form(markdown: str, heading: str) -> None:
    assert first_heading(markdown) == heading


def test_visible_text_is_what_a_reader_sees() -> None:
    markdown = "# A\n\nb *c* `d` [e](https://f.example)\ng\n\n```\nh\n```"
    assert visible_text(markdown) == "A\nb c d e g\nh\n"
    assert visible_text(markdown, with_code=False) == "A\nb c  e g"


def test_the_parser_is_whole_before_threads_share_it() -> None:
    """Its rules are compiled by the first use, and half compiled ones render half of the Markdown."""
    rendering._parser.cache_clear()
    parser = rendering._parser()
    rulers = (parser.core.ruler, parser.block.ruler, parser.inline.ruler, parser.inline.ruler2)
    assert all(ruler.__cache__ for ruler in rulers)
