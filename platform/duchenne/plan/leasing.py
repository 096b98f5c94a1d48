"""The seconds that leases are made of: one place for the queue, the driver's pulse, and what `plan` calls the least."""

from __future__ import annotations

from typing import Final

QUANTUM_SECONDS: Final = 10.0
"""How long a lease of a fold job lasts before it must be renewed."""

GRACE_SECONDS: Final = 5.0
"""Reserved beyond a quantum, for the step that runs, saving and stopping."""

BEAT_SECONDS: Final = 2.0
"""How often the driver pays for wall time."""

TEARDOWN_SECONDS: Final = 10.0
"""Wall time that the driver holds beyond the next beat."""
