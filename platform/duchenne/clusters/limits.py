"""New limits of a sweep that goes on. Light: every command line imports it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """New limits of a sweep that goes on; None leaves one as it is.

    Attributes:
        usd: US dollars; gpu_hours: GPU-hours; wall_seconds: seconds of wall time. They count what was spent before.
    """

    usd: float | None = None
    gpu_hours: float | None = None
    wall_seconds: float | None = None

    def words(self) -> list[str]:
        """As options of `duchenne run` and `duchenne resume`."""
        given = (("--usd", self.usd), ("--gpu-hours", self.gpu_hours), ("--wall-seconds", self.wall_seconds))
        return [word for option, value in given if value is not None for word in (option, f"{value:g}")]
