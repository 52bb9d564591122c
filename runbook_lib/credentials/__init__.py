"""Keys and passwords: read again when they change, and masked wherever text leaves the process."""
