"""Figures of a sweep that were drawn: which there are, and each as PNG or SVG."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse
from pydantic import BaseModel

from duchenne.server import queries
from duchenne.server.access import Configured, Store, Who
from duchenne.server.problems import Problem

router = APIRouter(tags=["figures"])

_FILE: Final = re.compile(r"[a-z0-9_]{1,80}\.(png|svg)")
_MEDIA: Final = {".png": "image/png", ".svg": "image/svg+xml"}
FigureName = Annotated[str, PathParameter(max_length=100, description="As the list names it, such as task_f1.svg.")]


class FigureOut(BaseModel):
    """A drawn figure."""

    name: str
    bytes: int


def figure_files(home: Path, sweep: str) -> dict[str, Path]:
    """File name -> path of the figures that `duchenne figures` drew of a sweep."""
    folder = home / "sweeps" / sweep / "figures"
    if not folder.is_dir():
        return {}
    return {path.name: path for path in sorted(folder.iterdir()) if _FILE.fullmatch(path.name) and path.is_file()}


@router.get("/sweeps/{sweep}/figures")
def list_figures(sweep: str, who: Who, store: Store, settings: Configured) -> list[FigureOut]:
    """The figures of a sweep that were drawn: `duchenne figures ID` draws them."""
    files = figure_files(settings.home, queries.sweep(store, who, sweep).id)
    return [FigureOut(name=name, bytes=path.stat().st_size) for name, path in files.items()]


@router.get(
    "/sweeps/{sweep}/figures/{name}",
    response_class=FileResponse,
    responses={200: {"content": {media: {} for media in _MEDIA.values()}, "description": "The picture"}},
)
def show_figure(sweep: str, name: FigureName, who: Who, store: Store, settings: Configured) -> FileResponse:
    """One figure. A name is looked up in the list, never joined to a path."""
    path = figure_files(settings.home, queries.sweep(store, who, sweep).id).get(name)
    if path is None:
        raise Problem(404, "a figure is one of the list's, but there is none of that name; list them one level up")
    return FileResponse(path, media_type=_MEDIA[path.suffix])
