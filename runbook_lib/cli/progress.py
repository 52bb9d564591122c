"""Progress bars: on a terminal only, on the error stream, gone when done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress_bar(
    description: str, unit: str, **options: Any
) -> Iterator[Callable[[int, int], None] | None]:
    """Gives what is to be called with (done, all), or None when there is no terminal.

    `options` go to tqdm, for example `unit_scale=True`.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=description, unit=unit, leave=False, **options) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
