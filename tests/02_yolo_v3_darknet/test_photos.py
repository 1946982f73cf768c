"""Photos of every kind, and files that are none."""

import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from boxes import Letterbox
from common import photos
from common.photo_files import expand_source
from common.photos import PHOTO_SUFFIXES, PhotoError, photo_size, read_photo
from common.video import VIDEO_SUFFIXES, is_video


def gradient(width=40, height=30):
    """A smooth uint8 RGB picture, which JPEG keeps well."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack((x, y, 255 - (x + y) / 2), axis=-1).astype(np.uint8)


def test_rgb_png_is_read_exactly(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    assert photo.dtype == np.uint8 and photo.flags.c_contiguous
    assert np.array_equal(photo, gradient())
    assert np.array_equal(read_photo(str(tmp_path / "a.png")), gradient())


def test_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").tolist() == [[[10, 20, 30]]]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_gray(tmp_path, suffix):
    gray = gradient()[:, :, 0]
    Image.fromarray(gray).save(tmp_path / f"a.{suffix}", quality=100)
    photo = read_photo(tmp_path / f"a.{suffix}")
    assert photo.shape == (30, 40, 3)
    assert np.abs(photo.astype(int) - gray[:, :, None]).max() <= 2


def test_black_and_white(tmp_path):
    Image.fromarray(gradient()[:, :, 0] > 127).save(tmp_path / "a.png")
    assert np.array_equal(read_photo(tmp_path / "a.png")[:, :, 1] == 255, gradient()[..., 0] > 127)


def test_transparency_is_dropped(tmp_path):
    alpha = np.full((30, 40, 1), 7, np.uint8)
    Image.fromarray(np.concatenate((gradient(), alpha), axis=-1)).save(tmp_path / "a.png")
    assert np.array_equal(read_photo(tmp_path / "a.png"), gradient())
    gray = Image.fromarray(np.concatenate((gradient()[:, :, :1], alpha), axis=-1), "LA")
    gray.save(tmp_path / "b.png")
    assert np.array_equal(read_photo(tmp_path / "b.png"), gradient()[:, :, :1].repeat(3, axis=2))


def test_palette(tmp_path):
    picture = Image.fromarray(gradient()).quantize(64)
    expected = np.array(picture.convert("RGB"))
    for name in ("a.png", "a.gif"):
        picture.save(tmp_path / name)
        assert np.array_equal(read_photo(tmp_path / name), expected)


def test_sixteen_bit_gray(tmp_path):
    levels = np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    assert np.abs(photo - (levels / 257)[:, :, None]).max() <= 0.5
    assert photo.max() == 255 and photo.min() == 0
    exact = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(exact).save(tmp_path / "b.png")
    assert np.array_equal(read_photo(tmp_path / "b.png")[:, :, 0], exact // 257)


def test_dark_sixteen_bit_gray_stays_dark(tmp_path):
    Image.fromarray(np.full((4, 5), 200, np.uint16)).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png").max() == 1


def test_levels_beyond_sixteen_bits_are_refused(tmp_path):
    for level in (-1, 65536):
        Image.fromarray(np.full((4, 5), level, np.int32)).save(tmp_path / "a.tif")
        refused(tmp_path / "a.tif", f"holds levels from {level} to {level}; 0 to 65535 are allowed")


def test_sixteen_bit_rgb(tmp_path):
    """Pillow cannot write it, so the file is made by hand."""
    levels = (gradient().astype(">u2") * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in levels)

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 40, 30, 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert np.array_equal(read_photo(tmp_path / "a.png"), gradient())


def test_float_tiff(tmp_path):
    Image.fromarray(np.full((4, 5), 77.0, np.float32)).save(tmp_path / "a.tif")
    refused(tmp_path / "a.tif", "holds float values; levels of 8 or 16 bits are allowed")


def test_cmyk_jpeg(tmp_path):
    Image.fromarray(gradient()).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    photo = read_photo(tmp_path / "a.jpg")
    assert np.abs(photo.astype(int) - gradient()).max() <= 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_camera_rotation_is_undone(tmp_path, orientation):
    upright = gradient()
    turn = {  # how a camera stores an upright picture under each orientation
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(turn[orientation](upright)))
    exif = stored.getexif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_photo(tmp_path / "a.png"), upright)


def test_rotated_jpeg(tmp_path):
    picture = Image.fromarray(gradient())
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    picture.save(tmp_path / "plain.jpg", quality=95)
    turned, plain = read_photo(tmp_path / "turned.jpg"), read_photo(tmp_path / "plain.jpg")
    assert turned.shape == (40, 30, 3)
    assert np.array_equal(turned, np.rot90(plain, -1))
    assert photo_size(tmp_path / "turned.jpg") == (30, 40)
    # an annotation of the stored size was drawn on the stored pixels
    assert photo_size(tmp_path / "turned.jpg", (40, 30)) == (40, 30)
    assert np.array_equal(read_photo(tmp_path / "turned.jpg", (40, 30)), plain)
    assert np.array_equal(read_photo(tmp_path / "turned.jpg", (30, 40)), turned)


def test_another_size_than_the_annotation_says(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    message = "a.png: is 40 x 30 pixels, but its annotation says 30 x 40"
    for read in (read_photo, photo_size):
        with pytest.raises(PhotoError, match=message):
            read(tmp_path / "a.png", (30, 40))


def test_damaged_exif_does_not_hide_a_photo(tmp_path):
    Image.fromarray(gradient()).save(tmp_path / "a.png", exif=b"Exif\0\0no such thing")
    assert np.array_equal(read_photo(tmp_path / "a.png"), gradient())
    assert photo_size(tmp_path / "a.png") == (40, 30)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_photo(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def test_very_wide_photo(tmp_path):
    Image.fromarray(gradient(20_000, 30)).save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png")
    assert np.array_equal(photo, gradient(20_000, 30))
    assert Letterbox(20_000, 30, 416, 416).apply(photo).shape == (3, 416, 416)


def refused(path, message):
    with pytest.raises(PhotoError, match=re.escape(f"{path}: {message}")):
        read_photo(path)


def test_files_that_are_no_photo(tmp_path):
    refused(tmp_path / "none.jpg", "there is no such file")
    (tmp_path / "empty.jpg").touch()
    refused(tmp_path / "empty.jpg", "the file is empty")
    (tmp_path / "text.jpg").write_text("this is a text\n" * 50)
    refused(tmp_path / "text.jpg", "this is not a photo")
    refused(tmp_path, "cannot be read (")
    assert issubclass(PhotoError, ValueError)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "webp", "tif"])
def test_truncated_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(PhotoError, match=re.escape(f"{path}: ")):
        read_photo(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "gif", "tif", "webp", "bmp"])
def test_damaged_files_are_read_or_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(gradient()).save(path)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = content.copy()
        damaged[random.integers(0, len(content), 4)] = random.integers(0, 256, 4)
        path.write_bytes(damaged.tobytes())
        try:
            photo = read_photo(path)
        except PhotoError as error:
            assert str(error).startswith(str(path))
        else:
            assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3


def png_header_of(width, height):
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (head, data, b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_decompression_bomb(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header_of(50_000, 50_000))  # 7.5 GB if it were unpacked
    refused(path, "cannot be read (Image size (2500000000 pixels) exceeds limit")


def test_more_pixels_than_allowed(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png_header_of(12_501, 12_000))
    refused(path, "12501 x 12000 pixels are more than the 150,000,000 that are allowed")


def test_pixel_limit_is_exact(tmp_path, monkeypatch):
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    monkeypatch.setattr(photos, "MAX_PHOTO_PIXELS", 1200)
    assert read_photo(tmp_path / "a.png").shape == (30, 40, 3)
    monkeypatch.setattr(photos, "MAX_PHOTO_PIXELS", 1199)
    refused(tmp_path / "a.png", "40 x 30 pixels are more than the 1,199 that are allowed")


def test_sources(tmp_path):
    for name in ("b.JPG", "a.png", "film.mp4", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/c.png").touch()
    (tmp_path / "odd[1].png").touch()
    assert [path.name for path in expand_source(str(tmp_path))] == ["a.png", "b.JPG", "odd[1].png"]
    both = PHOTO_SUFFIXES + VIDEO_SUFFIXES
    assert [path.name for path in expand_source(str(tmp_path), both)] == [
        "a.png", "b.JPG", "film.mp4", "odd[1].png"
    ]  # fmt: skip
    assert expand_source(str(tmp_path / "*.txt")) == [tmp_path / "notes.txt"]
    found = expand_source(str(tmp_path / "**/*.png"))
    assert {path.name for path in found} == {"a.png", "c.png", "odd[1].png"}
    assert expand_source(str(tmp_path / "odd[1].png")) == [tmp_path / "odd[1].png"]
    assert expand_source("not/there.jpg")[0].name == "there.jpg"


def test_sources_without_files(tmp_path):
    with pytest.raises(
        PhotoError, match="this folder holds no file that ends in .avif, .bmp, .dib, .gif, "
    ):
        expand_source(str(tmp_path))
    with pytest.raises(PhotoError, match=re.escape("*.jpg: no file fits this pattern")):
        expand_source(str(tmp_path / "*.jpg"))


def test_videos_are_known_by_their_ending():
    assert is_video("a.MP4") and is_video("trip/b.mkv")
    assert not is_video("a.jpg") and not is_video("mp4")
