"""What importing the data room may cost: the command line does it for every verb."""

from __future__ import annotations

import json
import pkgutil
from types import ModuleType
from typing import Any

import pytest

import duchenne_jobs.data

DECODERS = ("PIL", "cv2", "av", "onnxruntime")
HEAVY = ("torch", "ray", "pandas", "sklearn", "matplotlib", "pyarrow", "fsspec", "s3fs", "river", *DECODERS)


def loaded_after(run_python: Any, code: str) -> set[str]:
    done = run_python(f"{code}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))")
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy(run_python: Any) -> None:
    assert loaded_after(run_python, "import duchenne_jobs.data") == set()


def test_what_validate_needs_loads_nothing_heavy(run_python: Any) -> None:
    code = (
        "from duchenne_jobs.data import builtin_subject_count, builtin_tasks, load_protocol, toy_dataset\n"
        "builtin_subject_count('builtin://yeast'); builtin_tasks('builtin://toy'); load_protocol('bp4d')\n"
        "toy_dataset(10, 3, 0)"
    )
    assert loaded_after(run_python, code) == set()


def test_a_local_dataset_needs_neither_s3fs_nor_torch(run_python: Any, toy: Any) -> None:
    code = f"from duchenne_jobs.data import open_dataset\nopen_dataset({toy.uri!r}).rows(['labels'])"
    assert not loaded_after(run_python, code) & {"s3fs", "torch", "ray", "sklearn", "matplotlib", "river"}


def test_every_public_name_resolves_to_itself() -> None:
    modules = {module.name for module in pkgutil.iter_modules(duchenne_jobs.data.__path__)}
    # Importing a submodule sets its name on the package: it would silently replace a function of that name.
    assert modules.isdisjoint(duchenne_jobs.data.__all__)
    for name in duchenne_jobs.data.__all__:
        assert not isinstance(getattr(duchenne_jobs.data, name), ModuleType)
    assert set(duchenne_jobs.data.__all__) <= set(dir(duchenne_jobs.data))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        duchenne_jobs.data.nothing  # noqa: B018
