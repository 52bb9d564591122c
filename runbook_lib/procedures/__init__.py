"""Procedures: parameterised notebooks, run and recorded."""
