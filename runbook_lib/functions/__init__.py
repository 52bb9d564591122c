"""The written runbook's functions by name: one answer for the library, the command line and HTTP."""
