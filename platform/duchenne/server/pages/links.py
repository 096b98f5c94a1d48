"""Addresses of the pages: a query string with some of it changed, and where a form may send the browser back to."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote, urlencode

Pairs = tuple[tuple[str, str], ...]


def changed(pairs: Iterable[tuple[str, str]], **changes: str | None) -> str:
    """The query string `?...` of `pairs` with each name of `changes` set, or left out where it is None."""
    kept = [(name, value) for name, value in pairs if name not in changes and value]
    kept += [(name, value) for name, value in changes.items() if value is not None]
    return "?" + urlencode(kept) if kept else "?"


def entry_path(entry: str) -> str:
    """The page of an entry."""
    return "/entries/" + quote(entry, safe="")


def board_path(board: str) -> str:
    """The page of a board."""
    return "/boards/" + quote(board, safe="")


def sweep_path(sweep: str) -> str:
    """The page of a sweep."""
    return "/sweeps/" + quote(sweep, safe="")


def team_path(team: str) -> str:
    """The page of a team."""
    return "/teams/" + quote(team, safe="")


def own_path(address: str | None) -> str:
    """`address`, if it is a path of this server; else the first page: nobody is sent elsewhere by a link."""
    text = address or "/"
    plain = text.isascii() and text.isprintable() and "\\" not in text and len(text) < 2000
    return text if plain and text.startswith("/") and not text.startswith("//") else "/"
