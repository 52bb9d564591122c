"""Schedules: files that say when a procedure runs, and the clock that keeps them."""
