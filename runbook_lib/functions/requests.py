"""What the functions take. Unknown names and wrong types are refused."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise ValueError("is no time zone; names are like Europe/Berlin") from None
    return value


TimeZone = Annotated[str, AfterValidator(_known_zone), Field(max_length=64)]


class Request(BaseModel):
    """What a function takes. `changes` says whether this request would change or cost something."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def changes(self) -> bool:
        return False

    def for_reading(self) -> Self | None:
        """The request as GET may make it, which changes nothing; None when only POST will do."""
        return None if self.changes else self


class NoOptions(Request):
    """Takes nothing."""


class Monitoring(Request):
    """The days that figures are about, and the zone in which days begin."""

    days: int = Field(7, ge=1, le=366)
    time_zone: TimeZone = "UTC"


class Performance(Request):
    """The hours that durations are about."""

    hours: int = Field(24, ge=1, le=24 * 90)


class Sweeper(Request):
    """`dry_run` only shows what would be taken back."""

    dry_run: bool = False
    reason: str | None = Field(None, max_length=500)

    @property
    def changes(self) -> bool:
        return not self.dry_run

    def for_reading(self) -> Self:
        return self.model_copy(update={"dry_run": True})


class OpenAITest(Request):
    """`write` asks for a few words, which costs a fraction of a cent."""

    write: bool = False

    @property
    def changes(self) -> bool:
        return self.write


class WordPressTest(Request):
    """`write` makes a draft and puts it into the trash."""

    write: bool = False

    @property
    def changes(self) -> bool:
        return self.write


class ContentAutomation(Request):
    """One action: `test_credentials`, `enqueue` with a topic, or `status`, of a job or of all."""

    action: Literal["test_credentials", "enqueue", "status"] = "status"
    topic: str | None = Field(None, max_length=4_000)
    category: str | None = Field(None, max_length=200)
    # Of a pipeline that is not ours an id may be anything.
    job_id: str | None = Field(None, min_length=1, max_length=200)
    idempotency_key: str | None = Field(None, max_length=200)

    @model_validator(mode="after")
    def _what_belongs_to_the_action(self) -> Self:
        if self.action == "enqueue" and not (self.topic or "").strip():
            raise ValueError("enqueue needs a topic")
        stray = [
            name
            for name, action in (
                ("topic", "enqueue"), ("category", "enqueue"), ("idempotency_key", "enqueue"), ("job_id", "status"),
            )
            if getattr(self, name) is not None and self.action != action
        ]  # fmt: skip
        if stray:
            raise ValueError(f"{', '.join(stray)} does not belong to the action {self.action}")
        return self

    @property
    def changes(self) -> bool:
        return self.action == "enqueue"
