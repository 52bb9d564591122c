"""The written runbook's functions by name: one function each, for the command line, HTTP and notebooks.

::

    answer = functions.call("sweeper", {"dry_run": True}, context=context, actor="ana")
    answer.status, answer.body

`call` never raises for what a caller can do wrong: it answers 4xx in words. GET reads and changes
nothing; POST is taken by all, and `required_scope` says which token it needs.
"""

from __future__ import annotations

from runbook_lib.functions.calling import Answer, call, required_scope
from runbook_lib.functions.catalogue import FUNCTIONS, Function

__all__ = ["FUNCTIONS", "Answer", "Function", "call", "required_scope"]
