"""Jobs, articles and prose for the tests of writing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from runbook_lib.pipeline.likeness import likeness_sketch, words_of
from runbook_lib.pipeline.model import Article, Job, Usage
from runbook_lib.pipeline.rendering import visible_text

PROSE = {
    "en": "Choosing the right tool for your team takes more than a list of features. You should first write down what the people who will use it every day need, and then look at how each of the products handles those tasks. When the trial is over, compare the results with what you expected.",
    "de": "Die Wahl des richtigen Werkzeugs für ein Team braucht mehr als eine Liste von Funktionen. Zuerst sollte man aufschreiben, was die Menschen, die es jeden Tag benutzen, wirklich brauchen, und dann prüfen, wie die Produkte mit diesen Aufgaben umgehen. Am Ende wird das Ergebnis mit den Erwartungen verglichen.",
    "fr": "Choisir le bon outil pour votre équipe demande plus qu'une liste de fonctions. Il faut d'abord noter ce dont les personnes qui l'utilisent chaque jour ont besoin, puis regarder comment les produits traitent ces tâches. À la fin de l'essai, comparez les résultats avec vos attentes, sans oublier le coût.",
    "es": "Elegir la herramienta correcta para su equipo requiere más que una lista de funciones. Primero hay que escribir lo que necesitan las personas que la usan cada día y después mirar cómo los productos resuelven esas tareas. Al final de la prueba, compare los resultados con lo que esperaba.",
    "it": "Scegliere lo strumento giusto per il proprio team richiede più di un elenco di funzioni. Per prima cosa bisogna scrivere di che cosa hanno bisogno le persone che lo usano ogni giorno e poi guardare come i prodotti gestiscono questi compiti. Alla fine della prova, confronta i risultati con le attese.",
    "pt": "Escolher a ferramenta certa para a sua equipa exige mais do que uma lista de funções. Primeiro é preciso escrever o que as pessoas que a usam todos os dias precisam e depois ver como os produtos tratam essas tarefas. No fim do teste, compare os resultados com o que esperava, sem esquecer o custo.",
    "nl": "Het kiezen van het juiste gereedschap voor je team vraagt meer dan een lijst met functies. Schrijf eerst op wat de mensen die het elke dag gebruiken nodig hebben en kijk dan hoe de producten met die taken omgaan. Vergelijk aan het einde van de proef de resultaten met wat je had verwacht.",
    "pl": "Wybór odpowiedniego narzędzia dla zespołu wymaga więcej niż listy funkcji. Najpierw należy zapisać, czego potrzebują ludzie, którzy będą go używać codziennie, a potem sprawdzić, jak produkty radzą sobie z tymi zadaniami. Na końcu porównaj wyniki z oczekiwaniami i podejmij decyzję wspólnie z całym zespołem firmy.",
    "zh": "为团队选择合适的工具不仅仅需要一份功能列表。首先应该写下每天使用它的人需要什么，然后看看每个产品如何处理这些任务。试用结束后，将结果与您的期望进行比较，并与整个团队一起做出决定。",
}
BODY = f"""{PROSE["en"]}

## Where to begin

Ask three people how they work today. Most of them will name *one* step that costs far too long, and it is
that step which a new product has to shorten. Write it down before anybody sees a demonstration.

- Count how often the step is done in a week.
- Note who waits for it.
- Measure a single case with a watch.

## What it costs

A price per seat says little. Add the hours of the move, the training, and the **second** system that stays
alive for a quarter. With these figures the cheapest offer is rarely the one that saves money.
"""


def job(**changes: Any) -> Job:
    """A job as a worker claims it."""
    own = Job(
        job_id="00000000-0000-4000-8000-000000000001",
        attempt=1,
        stage="write",
        topic="How to choose a CRM for a small team",
        category="Software",
        keywords=["CRM", "small teams"],
        audience="founders",
        tone="practical",
        requested_post_status=None,
        priority=5,
        retry_count=0,
        max_retries=3,
        lost_count=0,
        draft_requested_at=None,
        draft_age_seconds=None,
        post_id=None,
        claimed_at=datetime.now(UTC),
    )
    return own._replace(**changes)


def article(body_markdown: str = BODY, **changes: Any) -> Article:
    """An article as the writer makes it, with its words counted."""
    own: dict[str, Any] = {
        "title": "Choosing a CRM",
        "excerpt": "How a small team finds its CRM.",
        "tags": ("crm",),
        "finish_reason": "stop",
        "usage": Usage("gpt-4o-mini", 100, 200, None),
        "word_count": len(words_of(visible_text(body_markdown))),
        "likeness_sketch": likeness_sketch(body_markdown),
    }
    return Article(body_markdown=body_markdown, **{**own, **changes})


def completion(content: object = None, **changes: Any) -> dict[str, Any]:
    """The body of a 200 as OpenAI gives it; by default it holds a whole article as JSON."""
    if content is None:
        fields = {"title": "Choosing a CRM", "excerpt": "How to find it.", "body_markdown": BODY, "tags": ["crm", "sales"]}  # fmt: skip
        content = json.dumps(fields)
    message = {"role": "assistant", "content": content, "refusal": changes.pop("refusal", None)}
    choice = {"index": 0, "message": message, "finish_reason": changes.pop("finish_reason", "stop")}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [choice],
        "usage": {"prompt_tokens": 1_000, "completion_tokens": 2_000, "total_tokens": 3_000},
        **changes,
    }
