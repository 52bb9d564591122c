"""Failures, classed where they happen, and what each class means for the job and its provider.

A class decides, text does not:

- `JOB`: this job cannot succeed as it is. It ends as `error` at once.
- `CONTENT`: the model wrote something that must not be published. Tried again, charged to the job.
- `PASSING`: 5xx, time-out, broken connection. Tried again after a jittered pause, charged; not charged
  while its provider is paused, so that an outage ends no job.
- `UNKNOWN_OUTCOME`: a draft may or may not exist now. Tried again only after the site's longest
  processing time, since a look-up before that proves nothing.
- `PROVIDER`: quota, key, login, permission, address. Pauses the provider for all workers; the job
  waits uncharged.
- `RATE`: the provider asked for a pause and named its length. As `PROVIDER`, for that long.
- `WORKER`: the attempt ended because of us (stopped, lost). `released` is never charged.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, replace

from runbook_lib.errors import RunbookError
from runbook_lib.pipeline.model import Usage


class Fault(enum.Enum):
    JOB = "job"
    CONTENT = "content"
    PASSING = "passing"
    UNKNOWN_OUTCOME = "unknown outcome"
    PROVIDER = "provider"
    RATE = "rate"
    WORKER = "worker"


@dataclass(frozen=True)
class FailureClass:
    """What an error class means: whose fault it is, in words, and what to do first."""

    name: str
    fault: Fault
    meaning: str
    advice: str


def _catalogue(*classes: FailureClass) -> dict[str, FailureClass]:
    return {each.name: each for each in classes}


FAILURE_CLASSES = _catalogue(
    # OpenAI
    FailureClass("openai_quota_exhausted", Fault.PROVIDER, "The account has no credit or met a spending limit.", "Add credit or raise the limit, then `runbook resume openai`."),
    FailureClass("openai_key_invalid", Fault.PROVIDER, "OpenAI does not accept the API key.", "Put a valid key in OPENAI_API_KEY, then `runbook resume openai`."),
    FailureClass("openai_permission_denied", Fault.PROVIDER, "The key is valid but may not do this (project, region or permission).", "Check the key's project and permissions, then `runbook resume openai`."),
    FailureClass("openai_model_not_found", Fault.PROVIDER, "The model does not exist or the key has no access to it.", "Check OPENAI_MODEL, then `runbook resume openai`."),
    FailureClass("openai_wrong_address", Fault.PROVIDER, "What answers at OPENAI_BASE_URL is not an OpenAI-compatible API.", "Check OPENAI_BASE_URL and any proxy in between, then `runbook resume openai`."),
    FailureClass("openai_rate_limited", Fault.RATE, "Requests or tokens per minute exceeded.", "Nothing to do: all workers wait as asked. If it stays, lower `runbook limits set openai --requests-per-minute`."),
    FailureClass("openai_overloaded", Fault.PASSING, "OpenAI answered with a server error.", "Nothing to do: the job is tried again."),
    FailureClass("openai_unreachable", Fault.PASSING, "No connection to OpenAI, or it broke.", "Check the network and the provider's status page if it stays."),
    FailureClass("openai_timeout", Fault.PASSING, "OpenAI did not answer within the deadline.", "Nothing to do: the job is tried again. If it stays, look at the provider's response times."),
    FailureClass("openai_answer_unreadable", Fault.PASSING, "OpenAI's answer could not be read.", "Nothing to do: the job is tried again."),
    FailureClass("openai_content_filtered", Fault.JOB, "The content filter refused this topic.", "Reword the topic and add it as a new job."),
    FailureClass("openai_refused", Fault.JOB, "The model refused to write about this topic.", "Reword the topic and add it as a new job."),
    FailureClass("openai_context_too_long", Fault.JOB, "The topic is too long for the model.", "Shorten the topic and add it as a new job."),
    FailureClass("openai_request_refused", Fault.JOB, "OpenAI refused the request as malformed.", "Read the message; it names the parameter."),
    FailureClass("openai_settings_refused", Fault.PROVIDER, "OpenAI refuses what every request carries: a parameter, or more tokens than the account may use.", "Read the message, check OPENAI_MODEL and RUNBOOK_MAXIMUM_OUTPUT_TOKENS, then `runbook resume openai`."),
    # the article
    FailureClass("topic_too_long", Fault.JOB, "The topic is longer than the limit.", "Shorten the topic, or raise RUNBOOK_MAXIMUM_TOPIC_CHARACTERS."),
    FailureClass("topic_unusable", Fault.JOB, "The topic holds no text that can be written about.", "Correct the topic and add it as a new job."),
    FailureClass("content_truncated", Fault.CONTENT, "The article stops in the middle (finish_reason length).", "Nothing to do: it is written again. If it stays, use a model with a longer output."),
    FailureClass("content_empty", Fault.CONTENT, "The answer held no article.", "Nothing to do: it is written again."),
    FailureClass("content_too_short", Fault.CONTENT, "The article has fewer words than the minimum.", "If it stays, lower RUNBOOK_MINIMUM_WORDS or use another model."),
    FailureClass("content_repetitive", Fault.CONTENT, "The article repeats itself.", "Nothing to do: it is written again."),
    FailureClass("content_too_alike", Fault.CONTENT, "The article is nearly the same as a recent one.", "Look for the earlier job on the same topic."),
    FailureClass("content_wrong_language", Fault.CONTENT, "The article is not in the language that was asked for.", "Nothing to do: it is written again."),
    FailureClass("content_leftovers", Fault.CONTENT, "The article holds parts of a prompt or of an assistant's chatter.", "Nothing to do: it is written again."),
    # WordPress
    FailureClass("wordpress_login_failed", Fault.PROVIDER, "WordPress does not accept the user and application password.", "Make a new application password, set WORDPRESS_APP_PASSWORD, then `runbook resume wordpress`."),
    FailureClass("wordpress_permission_lost", Fault.PROVIDER, "The user may log in but not publish.", "Give the user the role Author or Editor, then `runbook resume wordpress`."),
    FailureClass("wordpress_rest_off", Fault.PROVIDER, "The REST API is off, restricted or not at this address.", "Check plugins that restrict REST and WORDPRESS_URL, then `runbook resume wordpress`."),
    FailureClass("wordpress_redirected", Fault.PROVIDER, "The site answers a write with a redirect; following it would lose the article.", "Set WORDPRESS_URL to the address it redirects to, then `runbook resume wordpress`."),
    FailureClass("wordpress_certificate_invalid", Fault.PROVIDER, "The site's certificate is expired or does not match.", "Renew the certificate, then `runbook resume wordpress`."),
    FailureClass("wordpress_rate_limited", Fault.RATE, "The site asked for a pause (429, or maintenance with Retry-After).", "Nothing to do: all workers wait as asked."),
    FailureClass("wordpress_unavailable", Fault.PASSING, "The site answered with a server error.", "Look at the site if it stays."),
    FailureClass("wordpress_unreachable", Fault.PASSING, "No connection to the site, or it broke before anything was sent.", "Check that the site is up and WORDPRESS_URL is right if it stays."),
    FailureClass("wordpress_timeout", Fault.PASSING, "The site did not answer within the deadline.", "Look at the site's response time if it stays."),
    FailureClass("wordpress_answer_unreadable", Fault.PASSING, "The site's answer could not be read.", "Look at the site's plugins: one of them prints into REST answers."),
    FailureClass("wordpress_outcome_unknown", Fault.UNKNOWN_OUTCOME, "A draft was sent and no usable answer came: it may exist.", "Nothing to do: the job looks for it after the site's longest processing time."),
    FailureClass("wordpress_category_missing", Fault.JOB, "The category does not exist at the site.", "Make the category, or set RUNBOOK_FALLBACK_CATEGORY, then retry the job."),
    FailureClass("wordpress_request_refused", Fault.JOB, "WordPress refused the post as malformed.", "Read the message; it names the field."),
    FailureClass("wordpress_answer_differs", Fault.JOB, "WordPress stored something else than was asked.", "Read the message; it names what differs. The draft was not published."),
    FailureClass("wordpress_post_gone", Fault.JOB, "The draft was trashed or removed by somebody before it was published.", "If the article is wanted, retry the job: it makes a new draft."),
    FailureClass("wordpress_post_not_ours", Fault.JOB, "The job's post belongs to another author at the site.", "Give the post back to WORDPRESS_USER or delete it, then retry the job."),
    # ourselves
    FailureClass("attempt_deadline_exceeded", Fault.PASSING, "The attempt ran past its deadline and was given up.", "Look at the durations by stage if it stays."),
    FailureClass("unexpected_error", Fault.PASSING, "The worker met an error that it does not know.", "Report it with the job's id; the log holds the traceback."),
    FailureClass("waiting_for_site", Fault.WORKER, "A draft may exist; the site's longest processing time is not over yet.", "Nothing to do."),
    FailureClass("provider_paused", Fault.WORKER, "The provider was paused when the job needed it.", "Nothing to do: the job goes on when the pause ends."),
    FailureClass("worker_stopped", Fault.WORKER, "The worker was stopped and handed the job back.", "Nothing to do."),
    FailureClass("worker_lost", Fault.WORKER, "The worker vanished and its lease ran out.", "Nothing to do: the job is claimed again. Look at the worker if it stays."),
    FailureClass("quarantined", Fault.JOB, "Too many workers in a row vanished on this job.", "Look at the job before `runbook jobs retry`: it may kill workers."),
    FailureClass("cancelled", Fault.JOB, "An operator cancelled the job.", "Nothing to do."),
)  # fmt: skip

# Ended by a person or by protection, not by failing: left out of failure rates.
NOT_COUNTED_AS_FAILURE = ("cancelled", "quarantined")


@dataclass(frozen=True)
class Failure:
    """One failure with everything that a later reader would otherwise parse out of its text.

    `message` is masked and short; it holds no topic, body or secret. `usage` is what was paid for
    before it failed. `retry_after_seconds` is what the provider asked for.
    """

    error_class: str
    message: str
    stage: str | None = None
    provider: str | None = None
    exception_class: str | None = None
    http_status: int | None = None
    provider_code: str | None = None
    sqlstate: str | None = None
    constraint_name: str | None = None
    request_id: str | None = None
    retry_after_seconds: float | None = None
    usage: Usage | None = None

    @property
    def fault(self) -> Fault:
        return FAILURE_CLASSES[self.error_class].fault


class JobFailed(RunbookError):
    """An attempt cannot go on; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.error_class}: {failure.message}")
        self.failure = failure

    @classmethod
    def because(cls, error_class: str, message: str, **details: object) -> JobFailed:
        return cls(Failure(error_class, message, **details))  # type: ignore[arg-type]

    def with_usage(self, usage: Usage) -> JobFailed:
        return JobFailed(replace(self.failure, usage=usage))


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with full jitter: uniform in (0, min(maximum, base × 2ⁿ)], at least base/2.

    Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    base_seconds: float = 10
    maximum_seconds: float = 900

    def delay_seconds(self, retry_count: int, randomness: random.Random) -> float:
        ceiling = min(self.maximum_seconds, self.base_seconds * 2 ** min(retry_count, 30))
        return max(self.base_seconds / 2, randomness.uniform(0, ceiling))


_RANDOM = random.Random()


@dataclass(frozen=True)
class Decision:
    """What becomes of the job after a failure.

    `delay_seconds` None: at once. `pause_provider`: the provider is paused for all workers.
    """

    run_status: str  # error | released
    job_status: str  # pending | error
    charged: bool
    delay_seconds: float | None
    pause_provider: bool = False


def decide(
    failure: Failure,
    *,
    retry_count: int,
    max_retries: int,
    provider_paused: bool,
    policy: RetryPolicy,
    site_processing_seconds: float,
    randomness: random.Random = _RANDOM,
) -> Decision:
    """The one place where a failure's class becomes the job's next state."""
    fault = failure.fault
    if fault is Fault.WORKER:
        return Decision(
            "released", "pending", charged=False, delay_seconds=failure.retry_after_seconds
        )
    if fault in (Fault.PROVIDER, Fault.RATE):
        return Decision("error", "pending", charged=False, delay_seconds=None, pause_provider=True)
    if fault is Fault.JOB:
        return Decision("error", "error", charged=True, delay_seconds=None)
    delay = policy.delay_seconds(retry_count, randomness)
    if fault is Fault.UNKNOWN_OUTCOME:
        delay = max(delay, site_processing_seconds)
    if provider_paused:
        return Decision("error", "pending", charged=False, delay_seconds=delay)
    if retry_count >= max_retries:
        return Decision("error", "error", charged=True, delay_seconds=None)
    return Decision("error", "pending", charged=True, delay_seconds=delay)
