"""`python -m runbook_lib.cli`: the `runbook` command from wherever the package stands."""

from runbook_lib.cli import main

main()
