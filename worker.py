"""Runs jobs: claims them, writes each article with OpenAI, publishes it at WordPress, records every attempt.

SIGTERM or Ctrl-C: what runs is finished or handed back, uncharged. Once more: everything is released.
Exit status: 0 done and well; with --until-empty 1 if anything is left pending or in error;
2 wrong use or half configured; 3 the database or the sandbox could not be had.
"""

from __future__ import annotations

import argparse
import logging
import sys

from runbook_lib.errors import RunbookError


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="worker.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--concurrency", type=int, metavar="N", help="jobs at a time (RUNBOOK_CONCURRENCY, 4)"
    )
    parser.add_argument(
        "--prefetch", type=int, metavar="N", help="jobs claimed ahead (RUNBOOK_PREFETCH, 0)"
    )
    parser.add_argument(
        "--until-empty", action="store_true", help="end when nothing is left that is due"
    )
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        from runbook_lib.pipeline.service import run_worker
        from runbook_lib.settings import load_settings

        return run_worker(
            load_settings(),
            concurrency=arguments.concurrency,
            prefetch=arguments.prefetch,
            until_empty=arguments.until_empty,
        )
    except RunbookError as error:
        print(f"worker: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
