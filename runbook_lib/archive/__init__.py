"""The archive: executed notebooks and their pages, each written once."""
