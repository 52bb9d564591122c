"""The workbench's own processes: the demo, and what `runbook up` keeps running."""
