"""The credentials that there are."""

from __future__ import annotations

NAMES = (
    "DATABASE_URL",
    "OPENAI_API_KEY",
    "OPENAI_ADMIN_KEY",
    "WORDPRESS_APP_PASSWORD",
)
