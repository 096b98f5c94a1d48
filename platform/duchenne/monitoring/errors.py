"""What a user can put right about monitoring."""

from __future__ import annotations


class MonitoringError(ValueError):
    """An address, a token or a package that monitoring needs is wrong or missing; the message is one line."""
