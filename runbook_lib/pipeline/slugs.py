"""Slugs that carry the job's id: the one handle by which WordPress lets a post be found again."""

from __future__ import annotations

import re
import unicodedata

LONGEST_TOPIC_CHARACTERS = 100
SUFFIXES = ("", "-2", "-3", "-4", "-5")

# Letters that do not decompose into a Latin letter and a mark. German umlauts go before decomposing,
# since ä is "ae" to its readers. Cyrillic as in passports (ICAO Doc 9303), Greek as in ISO 843.
_LETTERS = str.maketrans(
    {
        "ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "œ": "oe", "ø": "oe", "å": "aa",
        "đ": "d", "ð": "d", "þ": "th", "ł": "l", "ı": "i", "ŋ": "ng", "ħ": "h",
        "а": "a", "б": "b", "в": "v", "г": "g", "д": "d", "е": "e", "ё": "e", "ж": "zh", "з": "z",
        "и": "i", "й": "i", "к": "k", "л": "l", "м": "m", "н": "n", "о": "o", "п": "p", "р": "r",
        "с": "s", "т": "t", "у": "u", "ф": "f", "х": "kh", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch",
        "ъ": "ie", "ы": "y", "ь": "", "э": "e", "ю": "iu", "я": "ia", "і": "i", "ї": "i", "є": "ie", "ґ": "g",
        "α": "a", "β": "v", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "η": "i", "θ": "th", "ι": "i", "κ": "k",
        "λ": "l", "μ": "m", "ν": "n", "ξ": "x", "ο": "o", "π": "p", "ρ": "r", "σ": "s", "ς": "s", "τ": "t",
        "υ": "y", "φ": "f", "χ": "ch", "ψ": "ps", "ω": "o",
        "&": " and ", "@": " at ", "%": " percent ", "€": " euro ", "£": " pound ", "$": " dollar ",
    }
)  # fmt: skip


def slug_for(topic: str, job_id: str) -> str:
    """The slug of a job's post: its topic in plain letters, cut at a word, and the job's id.

    The same job has the same slug for ever; two jobs never share one. Script that has no letters of
    its own here (Chinese, Arabic) is left out: the id alone is a valid slug.
    """
    words = re.findall(r"[a-z0-9]+", _plain_letters(topic))
    kept = ""
    for word in words:
        longer = f"{kept}-{word}" if kept else word[:LONGEST_TOPIC_CHARACTERS]
        if len(longer) > LONGEST_TOPIC_CHARACTERS:
            break
        kept = longer
    return f"{kept or 'post'}-{job_id}"


def slug_family(slug: str, *, trashed: bool = False) -> tuple[str, ...]:
    """The slugs under which WordPress may have stored a post that asked for `slug`."""
    names = tuple(f"{slug}{suffix}" for suffix in SUFFIXES)
    return tuple(f"{name}__trashed" for name in names) if trashed else names


def in_slug_family(slug: str, wanted: str) -> bool:
    """Whether WordPress made `slug` out of `wanted`: the same, or with a number that makes it unique."""
    return re.fullmatch(rf"{re.escape(wanted)}(-\d+)?", slug) is not None


def _plain_letters(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_LETTERS)
    decomposed = unicodedata.normalize("NFKD", folded)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter)).translate(
        _LETTERS
    )
