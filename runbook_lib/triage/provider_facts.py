"""Facts about OpenAI and WordPress as they answer now: reached, logged in, allowed. No token is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from runbook_lib.health.checks import Check
from runbook_lib.triage.evidence import Evidence
from runbook_lib.triage.facts import Fact, fact_of_check

# In the code of a refusal of the key itself; others tell of the organisation, the project or the address.
_OF_THE_KEY = ("key", "auth", "credential", "token")
_CERTIFICATE_EXPIRED, _CERTIFICATE_NOT_YET = 10, 9


def provider_facts(evidence: Evidence) -> Iterator[Fact]:
    checks = evidence.checks
    yield from _way(checks, "openai", "generate")
    yield from _way(checks, "wordpress", "publish")
    yield from _openai(checks)
    yield from _wordpress(checks)
    yield from _names(evidence)
    yield from _links(evidence)


def _way(checks: Mapping[str, Check], part: str, layer: str) -> Iterator[Fact]:
    """Name, connection, certificate: the same for both."""
    name, link, certificate = (
        checks.get(f"{part}.{step}") for step in ("name", "connection", "certificate")
    )
    api = checks.get("openai.api" if part == "openai" else "wordpress.rest_api")
    hung = _gave_no_answer(checks, part)
    title = "OpenAI" if part == "openai" else "WordPress"
    reached = link is not None and link.verdict == "ok"
    yield _fact(
        f"{part}.name_unresolved",
        "resolve",
        _is(name, "critical") if name or link else None,
        name,
        f"The name of {title}'s host cannot be resolved.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        f"{part}.name_server_silent",
        "resolve",
        _reason(name, "name_server") if name else None,
        name,
        f"This machine's name server gave no answer for {title}'s host.",
    )
    yield _fact(
        f"{part}.refused",
        "connect",
        _reason(link, "refused") if link else None,
        link,
        f"{title}'s host refuses connections: nothing listens there.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        f"{part}.no_route",
        "connect",
        _reason(link, "silent", "no_route") if link else None,
        link,
        f"{title}'s host takes no connection in time.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        f"{part}.silent",
        layer,
        hung if reached or hung else None,
        api or link,
        f"{title} takes the connection, and does not answer a cheap question in time.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        f"{part}.connects",
        "connect",
        reached if link else None,
        link,
        f"{title}'s port takes connections.",
    )
    yield _fact(
        f"{part}.not_silent",
        layer,
        not hung if reached or hung else None,
        api or link,
        f"{title} answers a cheap question in time.",
    )
    code = certificate.details.get("verify_code") if certificate else None
    refused = _is(certificate, "critical") if certificate else None
    expired = None if certificate is None else code in (_CERTIFICATE_EXPIRED, _CERTIFICATE_NOT_YET)
    yield _fact(
        f"{part}.certificate_refused",
        "connect",
        refused,
        certificate,
        f"The certificate of {title} is not valid.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        f"{part}.certificate_expired",
        "connect",
        expired,
        certificate,
        f"By this machine's clock the certificate of {title} has expired or does not hold yet.",
    )
    slow = checks.get(f"{part}.response_time")
    yield _fact(
        f"{part}.answers_slowly",
        layer,
        None if slow is None else slow.verdict != "ok",
        slow,
        f"A cheap question to {title} takes long.",
    )


def _gave_no_answer(checks: Mapping[str, Check], part: str) -> bool:
    """The request after a good connection got no answer, or the whole probe had to be given up.

    What answered its first question is not silent, whatever came after.
    """
    index = checks.get("wordpress.rest_api" if part == "wordpress" else "openai.key")
    if index is not None and index.verdict == "ok":
        return False
    found = checks.get(f"{part}.api")
    if (
        found is not None
        and found.verdict == "critical"
        and (found.details.get("reason") == "no_answer" or found.unit == "s")
    ):
        return True
    rest = checks.get("wordpress.rest_api") if part == "wordpress" else None
    return rest is not None and rest.details.get("error_class") == "wordpress_timeout"


def _openai(checks: Mapping[str, Check]) -> Iterator[Fact]:
    key, quota, api, rate = (
        checks.get(f"openai.{step}") for step in ("key", "quota", "api", "rate")
    )
    told = next((check for check in (key, quota, rate, api) if check is not None), None)
    status = told.details.get("http_status") if told else None
    known = told is not None and told.answered
    accepted = key is not None and key.verdict == "ok"
    yield _fact(
        "openai.key_accepted",
        "log in",
        accepted or (False if known else None),
        key or told,
        "OpenAI accepts the key: the list of models is answered.",
    )
    code = str((told.details.get("provider_code") if told else None) or "")
    of_the_account = bool(code) and not any(word in code for word in _OF_THE_KEY)
    yield _fact(
        "openai.account_refused",
        "log in",
        _is(key, "critical") and status == 401 and of_the_account if known else None,
        key or told,
        f"OpenAI refuses the account rather than the key ({code}): a new key of the same account would fail alike.",
        symptom=True,
        severe=True,
    )
    refused = _is(key, "critical") and status == 401 and not of_the_account
    yield _fact(
        "openai.key_refused",
        "log in",
        refused if known else None,
        key or told,
        "OpenAI refuses the key (401).",
        symptom=True,
        severe=True,
    )
    over_http = accepted or status is not None
    yield _fact(
        "openai.reached_over_http",
        "generate",
        over_http if known else None,
        told,
        "OpenAI answers over HTTP.",
    )
    yield _fact(
        "openai.server_not_failing",
        "generate",
        over_http and not (status and status >= 500) if known else None,
        told,
        "OpenAI answers a cheap question without a server error.",
    )
    yield _fact(
        "openai.not_allowed",
        "log in",
        _is(key, "critical") and status == 403 if known else None,
        key or told,
        "OpenAI knows the key and does not let it do this (403).",
        symptom=True,
        severe=True,
    )
    yield _fact(
        "openai.server_errors_now",
        "generate",
        bool(status and status >= 500) if known else None,
        told,
        "OpenAI answers a cheap question with a server error.",
        symptom=True,
    )
    wrong = (
        api is not None
        and api.details.get("http_status") is not None
        and api.details.get("provider_code") is None
        and not (status and status >= 500)
    )
    yield _fact(
        "openai.another_program",
        "configuration",
        wrong if known else None,
        api or told,
        "What answers at OPENAI_BASE_URL is not an OpenAI-compatible API.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        "openai.quota_refused_now",
        "generate",
        _is(quota, "critical") if known else None,
        quota or told,
        "OpenAI refuses even a cheap question for want of credit.",
        symptom=True,
        severe=True,
    )
    model = checks.get("openai.model")
    yield _fact(
        "openai.model_absent",
        "configuration",
        None if model is None else model.verdict != "ok",
        model,
        "The model is not among those that this key may use.",
        symptom=True,
    )


def _wordpress(checks: Mapping[str, Check]) -> Iterator[Fact]:
    rest, login, permission = (
        checks.get(f"wordpress.{step}") for step in ("rest_api", "login", "permission")
    )
    passwords, categories = (
        checks.get("wordpress.application_passwords"),
        checks.get("wordpress.categories"),
    )
    known = rest is not None and rest.answered
    error = str(rest.details.get("error_class", "")) if rest else ""
    status = rest.details.get("http_status") if rest else None
    yield _fact(
        "wordpress.rest_answers",
        "publish",
        rest is not None and rest.verdict == "ok" if known else None,
        rest,
        "The site's REST API answers.",
    )
    plain = rest is not None and rest.verdict == "ok" and rest.details.get("pretty_addresses") is False  # fmt: skip
    yield _fact(
        "wordpress.plain_permalinks",
        "publish",
        plain if known else None,
        rest,
        "The REST API answers under ?rest_route= only: permalinks are plain.",
    )
    yield _fact(
        "wordpress.answers_as_always",
        "publish",
        rest is not None and rest.verdict == "ok" and not plain if known else None,
        rest,
        "The REST API answers at its usual address.",
    )
    # 429 asks for fewer requests; with any other status who asks to wait is under maintenance.
    waits = error == "wordpress_rate_limited" and status != 429
    down = bool(status and status >= 500) or error == "wordpress_unavailable" or waits
    yield _fact(
        "wordpress.server_errors_now",
        "publish",
        down if known else None,
        rest,
        "The site answers a cheap question with a server error, or says that it is under maintenance.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        "wordpress.asks_for_less",
        "publish",
        status == 429 if known else None,
        rest,
        "The site answers a cheap question with 429: it asks for fewer requests.",
        symptom=True,
    )
    front = checks.get("wordpress.front_page")
    yield _fact(
        "wordpress.front_page_down",
        "publish",
        _is(front, "critical") if front else None,
        front,
        "The site's front page is answered with a server error, too.",
        symptom=True,
    )
    yield _fact(
        "wordpress.redirects_now",
        "configuration",
        error == "wordpress_redirected" if known else None,
        rest,
        "The site sends requests on to another address.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        "wordpress.rest_absent",
        "publish",
        error == "wordpress_rest_off" and status != 200 if known else None,
        rest,
        "The site answers, and has no REST API at this address, or restricts it.",
        symptom=True,
        severe=True,
    )
    unreadable = error in (
        "wordpress_answer_unreadable",
        "wordpress_request_refused",
        "wordpress_login_failed",
    ) or (error == "wordpress_rest_off" and status == 200)
    yield _fact(
        "wordpress.rest_answers_strangely",
        "publish",
        unreadable if known else None,
        rest,
        "The site's REST API answers in a way that WordPress does not.",
        symptom=True,
    )
    asked = login is not None and login.answered
    refused = (
        asked
        and login is not None
        and login.verdict == "critical"
        and login.details.get("http_status") in (401, 403)
    )
    yield _fact(
        "wordpress.login_refused",
        "log in",
        refused if asked else None,
        login,
        "The site refuses the user and application password (users/me).",
        symptom=True,
        severe=True,
    )
    yield _fact(
        "wordpress.logs_in",
        "log in",
        asked and login is not None and login.verdict == "ok" if asked else None,
        login,
        "The site accepts the user and application password.",
    )
    yield _fact(
        "wordpress.passwords_off",
        "log in",
        _is(passwords, "critical") if known else None,
        passwords or rest,
        "The site offers no application passwords at all.",
        symptom=True,
        severe=True,
    )
    yield _fact(
        "wordpress.may_not_publish",
        "publish",
        _is(permission, "critical") if permission else None,
        permission,
        "The user logs in, and lacks the right to write or publish posts.",
        symptom=True,
        severe=True,
    )
    fallback = (
        None if categories is None or not categories.answered else categories.verdict == "critical"
    )
    yield _fact(
        "wordpress.fallback_category_absent",
        "draft",
        fallback,
        categories,
        "The fall-back category does not exist at the site.",
        symptom=True,
    )
    names = checks.get("wordpress.missed_categories")
    yield _fact(
        "wordpress.categories_absent",
        "draft",
        None if names is None or not names.answered else names.verdict != "ok",
        names,
        "Jobs ended because the site lacks their category, and it still does.",
        subject=_first_absent(names),
        symptom=True,
    )


def _first_absent(check: Check | None) -> dict[str, str]:
    absent = check.details.get("absent") if check else None
    return {"category": absent[0]} if absent else {}


def _names(evidence: Evidence) -> Iterator[Fact]:
    """Names that cannot be resolved: of one host it may be that host's, of several it is the name server's."""
    looked = [
        check
        for check in (
            evidence.entrance.get("database.name"),
            evidence.checks.get("openai.name"),
            evidence.checks.get("wordpress.name"),
        )
        if check is not None
    ]
    failed = [check for check in looked if check.verdict == "critical"]
    yield Fact("names.several_unresolved", "resolve", len(failed) >= 2 if looked else None,
               "The names of several hosts cannot be resolved.", [check.source for check in failed], 2, "; ".join(str(check.source) for check in looked))  # fmt: skip
    silent = [check for check in failed if check.details.get("reason") == "name_server"]
    yield Fact("names.server_silent", "resolve", bool(silent) if looked else None,
               "This machine's name server gives no answer.", len(silent), 1, "; ".join(str(check.source) for check in looked))  # fmt: skip


def _links(evidence: Evidence) -> Iterator[Fact]:
    """Connections that are taken and reset at once, at several services in the same second: one link."""
    looked = [
        evidence.entrance.get("database.connection"), evidence.entrance.get("database.protocol"), evidence.entrance.get("database.login"),
        *(evidence.checks.get(f"{part}.connection") for part in ("openai", "wordpress")),
        evidence.checks.get("openai.api"), evidence.checks.get("wordpress.rest_api"),
    ]  # fmt: skip
    reset = [check for check in looked if check is not None and check.verdict == "critical" and "reset" in f"{check.details.get('reason')} {check.message}".lower()]  # fmt: skip
    parts = sorted({check.part for check in reset})
    yield Fact(
        "links.several_reset", "connect", len(parts) >= 2, f"Connections to {' and '.join(parts) or 'nobody'} are reset at the same time.",
        parts, 2, "; ".join(str(check.source) for check in reset) or "connecting to each service", symptom=True, severe=True,
    )  # fmt: skip


def _figure(check: Check) -> Any:
    """What the other side answered rather than the check's own figure."""
    told = (check.details.get(key) for key in ("http_status", "reason", "verify_code"))
    return next((each for each in told if each is not None), check.value)


_fact = partial(fact_of_check, figure=_figure)


def _is(check: Check | None, verdict: str) -> bool:
    return check is not None and check.verdict == verdict


def _reason(check: Check | None, *reasons: str) -> bool:
    return check is not None and check.details.get("reason") in reasons
