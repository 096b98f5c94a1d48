"""Images: bounded before they are decoded, whole or refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duchenne_jobs.data import DatasetError
from duchenne_jobs.data.faces.images import encode_jpeg, encode_map, read_image, read_map
from duchenne_jobs.data.faces.text import inside, read_lines


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is large, with a row of pixels in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))) + chunk(b"IEND", b"")
    )


def test_images_of_every_mode_become_rgb(tmp_path: Path) -> None:
    for mode, name in (("L", "a.png"), ("RGBA", "b.png"), ("P", "c.png"), ("RGB", "d.jpg"), ("CMYK", "e.jpg")):
        Image.new(mode, (30, 20)).save(tmp_path / name)
        assert read_image(tmp_path / name).shape == (20, 30, 3)


def test_a_truncated_jpeg_is_refused(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    data = encode_jpeg(pixels)
    for keep in (0, 10, len(data) // 2, len(data) - 200):
        (tmp_path / "cut.jpg").write_bytes(data[:keep])
        with pytest.raises(DatasetError, match=r"cut.jpg can't be decoded") as caught:
            read_image(tmp_path / "cut.jpg")
        assert "\n" not in str(caught.value)
    with pytest.raises(DatasetError, match=r"gone.jpg is missing"):
        read_image(tmp_path / "gone.jpg")


@pytest.mark.parametrize("size", [(60_000, 60_000), (9000, 9000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(bomb(*size))
    with pytest.raises(DatasetError, match=r"bomb.png"):
        read_image(tmp_path / "bomb.png")


def test_other_formats_are_not_even_tried(tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.jpg")
    with pytest.raises(DatasetError, match="can't be decoded"):
        read_image(tmp_path / "a.jpg")


def test_maps_are_ids_not_colours(tmp_path: Path) -> None:
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    (tmp_path / "a.png").write_bytes(encode_map(ids))
    assert np.array_equal(read_map(tmp_path / "a.png"), ids)
    palette = Image.fromarray(ids).copy()
    palette.putpalette([value % 256 for value in range(768)])
    palette.save(tmp_path / "b.png")
    assert np.array_equal(read_map(tmp_path / "b.png"), ids)
    Image.new("RGB", (4, 3)).save(tmp_path / "c.png")
    with pytest.raises(DatasetError, match="one 8-bit class id a pixel, but this one is RGB"):
        read_map(tmp_path / "c.png")


def test_the_same_pixels_give_the_same_bytes() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    assert encode_jpeg(pixels) == encode_jpeg(pixels.copy())


def test_paths_stay_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "own").symlink_to(root / "target")
    assert inside(root, root / "own") == root.resolve() / "target"
    for path in (root / "link", root / ".." / "secret", Path("/etc/passwd")):
        with pytest.raises(DatasetError, match=f"outside {root}"):
            inside(root, path)


def test_text_may_have_a_bom_and_any_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf1,2\r\n3,4 \r\n\r\n")
    assert read_lines(tmp_path / "a.txt") == ["1,2", "3,4"]
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DatasetError, match="must be UTF-8 text, but byte 3 is not"):
        read_lines(tmp_path / "b.txt")
    with pytest.raises(DatasetError, match=r"gone.txt is missing"):
        read_lines(tmp_path / "gone.txt")
