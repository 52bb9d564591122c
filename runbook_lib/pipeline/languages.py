"""Which of seven languages a text is written in, by the share of its function words.

Half of running text is function words, and hardly any of them means something in another language; so a
list of the commonest per language tells them apart within a few sentences. Languages that are not listed
are not judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def _words(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


FUNCTION_WORDS: dict[str, frozenset[str]] = {
    "en": _words(
        "the of and to is that it for with as was on be by this are or from at which have has had not but",
        "they you we he she their its your our can will would should there when where what who how than",
        "then these those because about into more most such only also if each before after between while",
    ),
    "de": _words(
        "der die das und ist nicht ein eine einen einem einer eines zu mit auf für von dem den des im sich",
        "auch es an werden wird wurde sind als wie bei oder aber aus nach wenn noch nur durch kann können",
        "sie wir ihr ihre ihren ich man haben hat sein diese dieser dieses mehr über zum zur dass sehr",
    ),
    "fr": _words(
        "le la les des une un du et est dans pour que qui pas plus sur avec par au aux ce cette ces son sa ses",
        "leur leurs nous vous ils elles il elle ne être sont mais ou où comme tout tous peut fait très sans",
        "entre aussi bien même votre vos notre nos afin lorsque d'un d'une c'est n'est qu'il l'on",
    ),
    "es": _words(
        "el los las una del y es en que por para con no se lo su sus como más pero al este esta estos estas",
        "son hay cuando muy sin sobre también entre ser tiene puede pueden porque todo todos cada donde",
        "desde nos le les ya fue han qué hasta otro otros eso esto usted ustedes nosotros mientras",
    ),
    "it": _words(
        "il lo gli della delle dei degli del di e è che per con non una un sono si nel nella dal dalla alla",
        "alle al ai come più ma anche se questo questa questi queste loro suo sua essere può possono molto",
        "ogni quando dove perché tra fra sul sulla cui nelle così ha hanno ci dell'azienda l'azienda un'altra",
    ),
    "pt": _words(
        "o os uma um do da dos das e é em que para com não se no na nos nas por mais como mas ao aos à às",
        "ou são seu sua seus suas pelo pela pelos pelas este esta isso isto você vocês ser tem têm foi",
        "também pode podem quando muito já está estão sem entre sobre cada até depois porque",
    ),
    "nl": _words(
        "de het een en van in is dat op te zijn met voor niet aan er om ook als bij naar door over maar uit",
        "dan wordt worden kan kunnen je jij u hun hij zij ze wij we dit deze die nog wel meer geen of tot",
        "heeft hebben was waar wat hoe zo veel moet moeten tussen omdat wanneer zonder",
    ),
}  # fmt: skip

FEWEST_WORDS = 40
LEAST_SHARE = 0.10  # below it a text is in none of the languages it could have been asked for


def base_language(code: str) -> str:
    """`pt-BR` and `pt_BR` are `pt`."""
    return code.replace("_", "-").split("-")[0].strip().lower()


def shares(words: Sequence[str]) -> dict[str, float]:
    """For each language the share of these words (lower case) that are its function words."""
    counted = Counter(words)
    total = max(1, len(words))
    return {
        language: sum(counted[word] for word in known) / total
        for language, known in FUNCTION_WORDS.items()
    }


def is_in_language(words: Sequence[str], code: str) -> bool:
    """Whether words (lower case) are of the language with this code.

    True as well when it cannot be judged: a language that is not listed, or too few words.
    """
    wanted = base_language(code)
    if wanted not in FUNCTION_WORDS or len(words) < FEWEST_WORDS:
        return True
    found = shares(words)
    if found[wanted] < LEAST_SHARE:
        return False
    return found[wanted] >= max(found.values())
