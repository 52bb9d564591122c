"""A worker that ends itself with SIGKILL at a named step, once: `DIE_AT` and the marker file `DIED`.

Everything else is the real worker. Steps: `before X` and `after X` for X in write, StoreArticle,
RequestDraft, find, create_draft, StoreDraft, publish; `after claim`; `before finish`.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from runbook_lib.pipeline import service
from runbook_lib.pipeline.attempt import Attempt, Checkpoint, Completed
from runbook_lib.settings import load_settings


def die_at(step: str) -> None:
    died = Path(os.environ["DIED"])
    if os.environ["DIE_AT"] == step and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class Dying:
    """Passes calls on, and may die before or after each."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def call(*arguments: Any) -> Any:
            die_at(f"before {name}")
            result = method(*arguments)
            die_at(f"after {name}")
            return result

        return call


class DyingAttempt:
    """An attempt whose checkpoints may be the last thing that happens."""

    def __init__(self, inner: Attempt) -> None:
        object.__setattr__(self, "_inner", inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._inner, name, value)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        name = type(checkpoint).__name__
        die_at(f"before {name}")
        self._inner.checkpoint(checkpoint)
        die_at(f"after {name}")


def main() -> int:
    make_process = service.make_process

    def make_dying_process(*arguments: Any, **options: Any) -> Any:
        process = make_process(*arguments, **options)
        process._writer, process._publisher = Dying(process._writer), Dying(process._publisher)

        def handle(attempt: Attempt) -> Completed:
            die_at("after claim")
            outcome = process(DyingAttempt(attempt))  # type: ignore[arg-type]
            die_at("before finish")
            return outcome

        return handle

    service.make_process = make_dying_process
    return service.run_worker(load_settings(), until_empty=True)


if __name__ == "__main__":
    sys.exit(main())
