"""A notebook-driven runbook and analytics workbench for a content pipeline on PostgreSQL."""

__version__ = "0.1.0"
