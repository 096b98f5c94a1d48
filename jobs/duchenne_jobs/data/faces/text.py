"""Text files of raw datasets as they arrive, with or without a BOM, with any line ends; and paths that stay inside."""

from __future__ import annotations

from pathlib import Path

from duchenne_jobs.data.errors import DatasetError

MAX_TEXT_BYTES = 512 * 2**20


def read_text(path: Path) -> str:
    """The text of a UTF-8 file without its BOM; line ends become newlines.

    Raises:
        DatasetError: missing, too large, or not UTF-8.
    """
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise DatasetError(f"{path} must have at most {MAX_TEXT_BYTES} bytes, but has {path.stat().st_size}")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing; restore it from the source") from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} must be UTF-8 text, but byte {error.start} is not; restore it") from error
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}; check the path and the permissions") from error


def read_lines(path: Path) -> list[str]:
    """Its lines, stripped, without the empty ones at the end."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def inside(root: Path, path: Path) -> Path:
    """`path`, links resolved, if it stays under `root`.

    Raises:
        DatasetError: `..` or a symbolic link leads out of the folder.
    """
    resolved = path.resolve()
    if not resolved.is_relative_to(root.resolve()):
        raise DatasetError(f"{path} leads to {resolved}, outside {root}; put the file itself there")
    return resolved
