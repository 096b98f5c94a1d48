"""NOTICE names what is installed, as its metadata says it, and nothing that Apache-2.0 can't go with."""

from __future__ import annotations

import importlib.util
import tomllib
from email.message import Message
from importlib.metadata import Distribution, distribution
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notice", ROOT / "docker/notice.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Package(Distribution):
    """A package of which only the metadata is there."""

    def __init__(self, **fields: str) -> None:
        self._fields = {
            "Name": "one",
            "Version": "1.0",
            **{key.replace("_", "-"): value for key, value in fields.items()},
        }

    @property
    def metadata(self) -> Message:  # type: ignore[override]
        message = Message()
        for key, value in self._fields.items():
            message[key] = value
        return message

    def read_text(self, filename: str) -> str | None:
        return None

    def locate_file(self, path: object) -> Path:  # type: ignore[override]
        return Path(str(path))


def test_it_is_what_is_installed(source: ModuleType) -> None:
    try:
        made = source.notice()
    except source.LicenceError as error:
        if "is installed; run" not in str(error):
            raise
        pytest.skip(str(error))
    assert (ROOT / "NOTICE").read_text() == made, "run `make notice`"


def test_it_names_every_locked_package_and_what_copyleft_means(source: ModuleType) -> None:
    text = (ROOT / "NOTICE").read_text()
    for line in (ROOT / "requirements-runtime.lock").read_text().splitlines():
        if not line.startswith("#"):
            assert f"\n{line.replace('==', ' ')} " in text
    for licence in {name for expression in source.CARRIED.values() for name in expression.split() if "GPL" in name}:
        assert licence.split("-")[0] in source.MEANING
    assert all(licence in source.MEANING or licence.split("-")[0] in source.MEANING for licence in source.COPYLEFT)
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"] == "Apache-2.0"


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License_Expression": "MIT AND (Apache-2.0 OR BSD-2-Clause)"}, "MIT AND (Apache-2.0 OR BSD-2-Clause)"),
        ({"License": "Apache 2.0"}, "Apache-2.0"),
        ({"License": "Copyright\nAll rights", "Classifier": "License :: OSI Approved :: BSD License"}, "BSD-3-Clause"),
        ({"Classifier": "License :: OSI Approved :: ISC License (ISCL)"}, "ISC"),
    ],
)
def test_a_licence_is_read_from_what_the_metadata_has(source: ModuleType, fields: dict[str, str], licence: str) -> None:
    assert source.licence_of(Package(**fields)) == licence


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"License_Expression": "AGPL-3.0-only"},
        {"License_Expression": "MIT AND GPL-2.0-only"},
        {"License": "Proprietary"},
        {"Classifier": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"},
    ],
)
def test_what_is_unknown_or_does_not_go_with_ours_is_refused(source: ModuleType, fields: dict[str, str]) -> None:
    with pytest.raises(source.LicenceError, match=r"^one: the licence must be known and go with Apache-2\.0"):
        source.licence_of(Package(**fields))


def test_copyleft_inside_a_wheel_is_found(source: ModuleType) -> None:
    found = source.carried_by(distribution("av"))
    assert found.get("libavcodec") == "LGPL-2.1-or-later" or found == {}  # a build against the system's FFmpeg
    assert source.carried_by(distribution("typer")) == {}
