"""How a search can break that is neither its trials' fault nor its budget's."""

from __future__ import annotations


class SearchBroken(Exception):  # noqa: N818 - reads as the fact it states
    """Tune ended because something beside it did, such as the records or the disk; the message is one line."""
