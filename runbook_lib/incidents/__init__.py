"""Incidents: working copies of the procedures, a timeline that writes itself, and what follows from both.

`records` opens and lists them, `copies` are the notebooks that a responder works in, `kernel_events` and
`cell_recorder` tell the timeline of each cell from inside the kernel, `drafts` writes what is to be said,
and `closing` archives the copies as they were run. This module stays empty: every kernel loads it.
"""
