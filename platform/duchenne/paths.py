"""Where things are kept unless somebody says otherwise."""

from pathlib import Path

HOME_VARIABLE = "DUCHENNE_HOME"
PID_VARIABLE = "DUCHENNE_PID_FILE"  # where a supervised driver writes the number of its process
DEFAULT_HOME = "~/.duchenne"


def shipped_sweeps() -> Path:
    """The folder of the sweep files that come along: a wheel holds it inside the package, a checkout in `jobs`."""
    packed = Path(__file__).parent / "examples"
    return packed if packed.is_dir() else Path(__file__).parents[2] / "jobs" / "sweeps"


def sweep_file(given: str | Path) -> Path:
    """The file of a sweep: a path, or the name of one that comes along (`quickstart`, `thesis/table_2_1`).

    A file that is there wins over a name; what is neither is returned as it is, for the reader to refuse.
    """
    path = Path(given)
    if path.is_file() or path.suffix or path.is_absolute() or ".." in path.parts:
        return path
    named = shipped_sweeps() / path.with_suffix(".yaml")
    return named if named.is_file() else path
