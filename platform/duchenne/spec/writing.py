"""YAML that `duchenne.spec.reading` reads back as it was."""

from __future__ import annotations

import re
from typing import Any

import yaml

_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class _Dumper(yaml.SafeDumper):
    """Quotes text that looks like a number here: `0e0` is one, though YAML 1.1 calls it a string."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


def to_yaml(value: Any) -> str:
    """`value` (dicts, lists, scalars) as YAML text, keys in their order."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True))
