"""Lists the benchmarks, or runs the one that is named: `make bench`, `make bench NAME=…`."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

from benchmarks import figures

DIRECTORY = Path(__file__).resolve().parent


def main(arguments: list[str]) -> int:
    """Exit status: 0 every bar met, 1 one was missed, 2 there is no such benchmark."""
    benchmarks = found()
    if not arguments:
        width = max(map(len, benchmarks), default=0)
        for name, summary in benchmarks.items():
            print(f"{name.ljust(width)}  {summary}")
        return 0
    if arguments[0] not in benchmarks:
        print(
            f"There is no benchmark {arguments[0]!r}. There are: {', '.join(benchmarks)}.",
            file=sys.stderr,
        )
        return 2
    importlib.import_module(f"benchmarks.{arguments[0]}").main()
    return 1 if any(figure.met is False for figure in figures.REPORTED) else 0


def found() -> dict[str, str]:
    """Name of each benchmark → first line of its docstring; read without importing it.

    A benchmark is a module with a `main`; the others are what benchmarks are made of.
    """
    modules = {
        path.stem: ast.parse(path.read_text("utf-8")) for path in sorted(DIRECTORY.glob("[!_]*.py"))
    }
    return {
        name: (ast.get_docstring(module) or "").partition("\n")[0]
        for name, module in modules.items()
        if any(isinstance(part, ast.FunctionDef) and part.name == "main" for part in module.body)
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
