"""Benchmarks: each module measures one thing, prints a JSON line per figure and keeps the raw samples."""
