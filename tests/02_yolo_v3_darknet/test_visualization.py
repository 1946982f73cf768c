import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from common.drawing import PALETTE, annotate, caption, class_color, draw_detections, text_color

NAMES = ["cat", "dog", "cow"]
BOXES = [[10, 30, 40, 50], [60, 20, 90, 70], [5, 5, 20, 20]]
LABELS = [1, 0, 1]
SCORES = [0.868, 0.5, 0.301]


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


@pytest.fixture
def image():
    return np.full((100, 120, 3), 127, np.uint8)


def rectangles(ax):
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


def test_draws_a_rectangle_and_a_caption_for_each(ax, image):
    same = draw_detections(ax, image, BOXES, LABELS, SCORES, class_names=NAMES, title="three")
    assert same is ax
    assert [one.get_bbox().extents.tolist() for one in rectangles(ax)] == BOXES
    assert [text.get_text() for text in ax.texts] == ["dog 0.87", "cat 0.50", "dog 0.30"]
    assert ax.get_title() == "three" and not len(ax.get_xticks()) and not len(ax.get_yticks())
    assert len(ax.images) == 1 and (ax.images[0].get_array() == image).all()


def test_a_class_has_one_colour(ax, image):
    draw_detections(ax, image, np.array(BOXES), np.array(LABELS))
    edges = [to_rgb(one.get_edgecolor()) for one in rectangles(ax)]
    assert edges[0] == edges[2] != edges[1]
    assert edges[1] == pytest.approx([value / 255 for value in class_color(0)])
    assert [text.get_text() for text in ax.texts] == ["1", "0", "1"]


def test_nothing_to_draw(ax, image):
    draw_detections(ax, image, np.empty((0, 4)), [], [], masks=np.empty((0, 100, 120), bool))
    assert not rectangles(ax) and not ax.texts and len(ax.images) == 1


def test_lists_of_different_lengths_are_refused(ax, image):
    with pytest.raises(ValueError, match="zip"):
        draw_detections(ax, image, BOXES, LABELS[:2], SCORES)


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_masks_lie_over_the_image(ax, image, dtype):
    masks = np.zeros((2, 100, 120), dtype)
    masks[0, 10:20, 30:50] = 1
    masks[1, 60:70, 80:90] = 1
    draw_detections(ax, image, BOXES[:2], LABELS[:2], masks=masks)
    overlay = np.asarray(ax.images[1].get_array())
    assert overlay.shape == (100, 120, 4)
    assert overlay[15, 40].tolist() == [*class_color(1), 127]
    assert overlay[65, 85].tolist() == [*class_color(0), 127]
    assert ((overlay[..., 3] > 0) == (masks.sum(axis=0) > 0)).all()


def test_colours():
    assert len(set(PALETTE)) == len(PALETTE) == 8
    assert class_color(3) == class_color(11) == PALETTE[3]
    assert text_color((240, 228, 66)) == (0, 0, 0)
    assert text_color((0, 114, 178)) == (255, 255, 255)


def test_caption():
    assert caption(1, 0.866, NAMES) == "dog 0.87"
    assert caption(1, None, NAMES) == "dog"
    assert caption(7, 0.5, None) == "7 0.50"


def test_annotate_leaves_its_argument_alone(image):
    before = image.copy()
    canvas = annotate(image, BOXES, LABELS, SCORES, NAMES)
    assert (image == before).all() and canvas is not image
    assert canvas.shape == image.shape and canvas.dtype == np.uint8
    image.flags.writeable = False
    assert (annotate(image, BOXES, LABELS, SCORES, NAMES) == canvas).all()
    assert (annotate(image, [], [], []) == image).all()


def test_annotate_draws_the_edges_of_the_box_in_the_colour_of_its_class():
    image = np.full((200, 200, 3), 127, np.uint8)
    canvas = annotate(image, [[50.2, 80.4, 149.6, 160]], [2], [0.5], NAMES)
    for x, y in ((100, 80), (50, 120), (150, 120), (100, 160)):
        assert tuple(canvas[y, x]) == class_color(2)
    assert tuple(canvas[120, 100]) == (127, 127, 127)


def test_annotate_changes_only_what_is_near_the_box():
    image = np.full((400, 400, 3), 127, np.uint8)
    canvas = annotate(image, [[150, 200, 250, 300]], [0], [0.87], NAMES)
    rows, columns = np.nonzero((canvas != image).any(axis=2))
    assert rows.min() >= 165 and rows.max() <= 302
    assert columns.min() >= 148 and columns.max() <= 252
    assert not (canvas != image)[205:295, 155:245].any()


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 60, 40],
        [250, 0, 300, 20],
        [-20, 150, 310, 220],
        [0, 0, 300, 200],
        [290, 190, 300, 200],
    ],
)
def test_captions_stay_inside_the_picture(box):
    """The caption's ground, a filled bar, is as wide as it is in the middle of the picture."""

    def pixels_of_colour(where):
        canvas = annotate(np.full((200, 300, 3), 127, np.uint8), [where], [0], [0.5], NAMES)
        bars = (canvas == class_color(0)).all(axis=2) | (canvas == text_color(class_color(0))).all(
            axis=2
        )
        return bars.sum(axis=1).max()

    free = pixels_of_colour([150, 100, 151, 101])
    assert pixels_of_colour(box) >= free - 1  # OpenCV's bars include both their ends


def test_annotate_a_tiny_photo():
    assert annotate(np.zeros((1, 1, 3), np.uint8), [[0, 0, 1, 1]], [0], [0.9]).shape == (1, 1, 3)
