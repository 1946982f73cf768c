"""Which files are photos, whether they are whole, and what is said about the others."""

import io
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from common import photos
from common.photo_files import expand_source, passed_over
from common.photos import (
    PHOTO_SUFFIXES,
    PhotoError,
    check_photo,
    photo_note,
    photo_size,
    read_photo,
)


def picture(width=64, height=48, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(form, **options):
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, form, **options)
    return buffer.getvalue()


FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "TGA", "PPM", "JPEG2000"]


@pytest.mark.parametrize("form", FORMATS)
def test_whole_files_pass_the_check(tmp_path, form):
    path = tmp_path / "a"
    path.write_bytes(encoded(form))
    for decode in (False, True):
        assert check_photo(path, decode=decode) == check_photo(str(path), (64, 48)) == (64, 48)
    with pytest.raises(PhotoError, match="is 64 x 48 pixels, but its annotation says 48 x 64"):
        check_photo(path, (48, 64))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_files_that_are_cut_off_fail_the_check(tmp_path, form, share):
    path, content = tmp_path / "a", encoded(form)
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(PhotoError, match=f"^{path}: "):
        check_photo(path)


def test_a_jpeg_that_is_cut_off_is_called_so(tmp_path):
    """Also where the small picture inside it, which cameras add, is whole."""
    exif = Image.Exif()
    exif[0x010E] = "a small picture: \xff\xd9"
    for content in (encoded("JPEG"), encoded("JPEG", exif=exif)):
        (tmp_path / "a.jpg").write_bytes(content[: len(content) * 3 // 4])
        with pytest.raises(PhotoError, match="a.jpg: the file is cut off or damaged"):
            check_photo(tmp_path / "a.jpg")


def test_what_cameras_append_is_no_damage(tmp_path):
    path = tmp_path / "a.jpg"
    for more in (b"a note", bytes(1000), bytes(100_000)):  # the last is decoded to be sure
        path.write_bytes(encoded("JPEG") + more)
        assert check_photo(path) == (64, 48)


def test_damage_in_the_middle_is_found_by_decoding(tmp_path):
    path, content = tmp_path / "a.png", bytearray(encoded("PNG"))
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)
    assert check_photo(path) == (64, 48)
    with pytest.raises(PhotoError, match="a.png: the file is damaged"):
        check_photo(path, decode=True)
    with pytest.raises(PhotoError, match="a.png: cannot be read"):
        read_photo(path)


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_an_ordinary_photo_is_checked_without_decoding(tmp_path, monkeypatch, form):
    (tmp_path / "a").write_bytes(encoded(form))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    began = time.perf_counter()
    for _ in range(50):
        check_photo(tmp_path / "a")
    assert (time.perf_counter() - began) / 50 < 0.01
    with pytest.raises(pytest.fail.Exception, match="decoded"):
        check_photo(tmp_path / "a", decode=True)


@pytest.mark.parametrize("late", [False, True])
def test_the_orientation_of_a_png_may_stand_behind_its_pixels(tmp_path, late):
    exif = Image.Exif()
    exif[0x0112] = 6
    content, plain = encoded("PNG", exif=exif), encoded("PNG")
    start = content.index(b"eXIf") - 4
    chunk = content[start : start + 12 + int.from_bytes(content[start : start + 4], "big")]
    path = tmp_path / "a.png"
    path.write_bytes(plain[:-12] + chunk + plain[-12:] if late else content)
    assert check_photo(path) == photo_size(path) == (48, 64)
    assert np.array_equal(read_photo(path), np.rot90(picture(), -1))


def test_levels_that_cannot_be_read_fail_the_check(tmp_path):
    Image.fromarray(np.full((4, 5), 0.5, np.float32)).save(tmp_path / "a.tif")
    Image.fromarray(np.full((4, 5), 70_000, np.int32)).save(tmp_path / "b.tif")
    for name, message in (("a", "holds float values"), ("b", "holds levels from 70000 to 70000")):
        with pytest.raises(PhotoError, match=message):
            check_photo(tmp_path / f"{name}.tif")


@pytest.mark.parametrize("suffix", ["tif", "png"])
@pytest.mark.parametrize(("lowest", "highest", "bits"), [(130, 3100, 12), (0, 1023, 10), (3, 9, 8)])
def test_few_bits_in_sixteen_are_stretched(tmp_path, suffix, lowest, highest, bits):
    path, levels = tmp_path / f"a.{suffix}", np.linspace(lowest, highest, 1200).round()
    Image.fromarray(levels.reshape(30, 40).astype(np.uint16)).save(path)
    expected = np.rint((levels - lowest) * 255 / (highest - lowest)).reshape(30, 40, 1)
    assert np.array_equal(read_photo(path), np.repeat(expected, 3, axis=2))
    assert photo_note(path) == (
        f"{path}: levels {lowest} to {highest} of a {bits}-bit picture were stretched to 0 to 255"
    )


def test_sixteen_bits_and_eight_need_no_note(tmp_path):
    for name, levels in (
        ("full.tif", np.linspace(0, 4096, 1200).astype(np.uint16)),
        ("even.tif", np.full(1200, 200, np.uint16)),
        ("plain.png", np.linspace(0, 255, 1200).astype(np.uint8)),
    ):
        Image.fromarray(levels.reshape(30, 40)).save(tmp_path / name)
        assert photo_note(tmp_path / name) is None
    assert read_photo(tmp_path / "full.tif").max() == 16


def container(brand):
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand + bytes(40)


def test_heic_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(container(b"heic"))
    for read in (read_photo, check_photo, photo_note):
        with pytest.raises(PhotoError, match="a.heic: .* format HEIC, install the package pillow-"):
            read(tmp_path / "a.heic")


def test_heic_with_its_package(tmp_path, monkeypatch):
    """The package stands here as one that reads its files as PNG behind the mark."""
    (tmp_path / "a.heic").write_bytes(container(b"heic"))
    opened = Image.open

    def register():
        monkeypatch.setattr(Image, "open", lambda path: Image.fromarray(picture()))

    package = types.SimpleNamespace(register_heif_opener=register)
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    assert np.array_equal(read_photo(tmp_path / "a.heic"), picture())
    assert Image.open is not opened


def test_avif_with_an_old_pillow(tmp_path, monkeypatch):
    (tmp_path / "a.avif").write_bytes(container(b"avif"))
    monkeypatch.setitem(sys.modules, "pillow_avif", None)
    monkeypatch.setattr(photos.features, "check", lambda name: False)
    with pytest.raises(PhotoError, match=r"install Pillow 11.3 or newer, or the package pillow-av"):
        read_photo(tmp_path / "a.avif")
    monkeypatch.setattr(photos.features, "check", lambda name: True)
    with pytest.raises(PhotoError, match=r"a.avif: (this is not a photo|cannot be read)"):
        read_photo(tmp_path / "a.avif")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif(tmp_path):
    (tmp_path / "a.avif").write_bytes(encoded("AVIF"))
    assert read_photo(tmp_path / "a.avif").shape == (48, 64, 3)
    assert check_photo(tmp_path / "a.avif") == (64, 48)


def test_the_content_counts_not_the_ending(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded("PNG"))
    assert np.array_equal(read_photo(tmp_path / "a.jpg"), picture())
    assert check_photo(tmp_path / "a.jpg") == (64, 48)


def test_endings_of_photos():
    assert {".jfif", ".jpe", ".pjpeg", ".avif", ".heic", ".heif", ".jp2"} <= set(PHOTO_SUFFIXES)
    assert all(suffix == suffix.lower() for suffix in PHOTO_SUFFIXES)


@pytest.fixture
def trip(tmp_path):
    folder = tmp_path / "trip"
    for place in ("", "day 1", "day 2", ".cache"):
        (folder / place).mkdir(exist_ok=True)
    for name in ("a.jpg", "b.JFIF", "day 1/c.jpg"):
        (folder / name).write_bytes(encoded("JPEG"))
    (folder / "photo").write_bytes(encoded("PNG"))
    for name in ("notes.docx", "README", "list.csv", ".DS_Store", "._a.jpg", "Thumbs.db"):
        (folder / name).write_bytes(b"no photo")
    return folder


def test_a_photo_without_an_ending_is_found_by_its_content(trip):
    assert [path.name for path in expand_source(str(trip))] == ["a.jpg", "b.JFIF", "photo"]


def test_what_is_passed_over_is_named(trip):
    note = (
        f"{trip}: 3 files are passed over (README, list.csv, notes.docx: no photo by the ending); "
        f"2 folders are passed over (day 1, day 2): for the photos in them use a pattern, "
        f"'{trip / '**' / '*.jpg'}'"
    )
    assert passed_over(str(trip)) == note
    assert {path.name for path in expand_source(str(trip / "**/*.jpg"))} >= {"a.jpg", "c.jpg"}
    (trip / "z.txt").touch()
    assert "4 files are passed over (README, list.csv, notes.docx, ...: no" in passed_over(
        str(trip)
    )
    assert passed_over(str(trip / "a.jpg")) is passed_over(str(trip / "*.jpg")) is None
    assert passed_over(str(trip / "day 1")) is None


def test_a_folder_without_photos_says_what_it_has(trip):
    for path in [
        path for path in Path(trip).iterdir() if path.name in {"a.jpg", "b.JFIF", "photo"}
    ]:
        path.unlink()
    with pytest.raises(PhotoError, match=r"ends in .avif, .*; .*2 folders are passed over \(day 1"):
        expand_source(str(trip))
