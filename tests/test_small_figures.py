"""Figures become smaller, and stay the figures they were."""

import base64
import io

import nbformat
import numpy as np
from PIL import Image

from small_figures import shrink_figures, smaller_png


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def photo_like() -> np.ndarray:
    """Smooth colours and a little noise: uint8 (120, 160, 3)."""
    rows, columns = np.mgrid[0:120, 0:160]
    smooth = np.stack((rows * 2, columns, 255 - rows), axis=-1)
    noise = np.random.default_rng(0).integers(-6, 7, smooth.shape)
    return (smooth + noise).clip(0, 255).astype(np.uint8)


def test_a_photo_takes_less_than_half_the_space_and_looks_the_same() -> None:
    original = photo_like()
    small = smaller_png(png(original))
    assert len(small) < 0.5 * len(png(original))
    restored = np.asarray(Image.open(io.BytesIO(small)).convert("RGB")).astype(int)
    assert restored.shape == original.shape
    assert np.abs(restored - original).mean() < 8


def test_few_colours_survive_exactly() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20], image[:, 30:] = (230, 159, 0), (0, 114, 178)
    restored = np.asarray(Image.open(io.BytesIO(smaller_png(png(image)))).convert("RGB"))
    assert np.array_equal(restored, image)


def test_a_second_time_changes_nothing() -> None:
    small = smaller_png(png(photo_like()))
    assert smaller_png(small) == small


def test_only_the_png_outputs_of_a_notebook_change() -> None:
    picture = base64.b64encode(png(photo_like())).decode()
    figure = nbformat.v4.new_output("display_data", {"image/png": picture, "text/plain": "figure"})
    text = nbformat.v4.new_output("stream", text="hello")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[figure, text])])
    shrink_figures(notebook)
    shrunk, untouched = notebook.cells[0].outputs
    assert len(shrunk.data["image/png"]) < len(picture)
    assert shrunk.data["text/plain"] == "figure"
    assert untouched == text


def test_a_thin_coloured_line_keeps_its_colour() -> None:
    image = photo_like()
    image[60:62, 20:140] = (214, 39, 40)
    restored = np.asarray(Image.open(io.BytesIO(smaller_png(png(image)))).convert("RGB"))
    assert np.abs(restored[60:62, 20:140].astype(int) - (214, 39, 40)).max() < 40
