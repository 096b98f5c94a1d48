"""What this machine has, and what a person has to do about what is missing.

Belongs here: looking, and one line a finding. Does not belong here: mending. A check changes nothing: no table, no
folder, no object.
"""

from duchenne.doctor.examine import examine
from duchenne.doctor.finding import Finding

__all__ = ["Finding", "examine"]
