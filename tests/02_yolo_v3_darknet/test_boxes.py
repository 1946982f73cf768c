"""Boxes by hand, then against torchvision, slow loops and Darknet itself."""

import math

import numpy as np
import pytest
import torch
import torchvision

import boxes
from boxes import Letterbox, cxcywh_to_xyxy, decode, postprocess, suppress, xyxy_to_cxcywh
from darknet.cfg import Yolo


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_boxes(count, seed=0):
    corners = torch.rand((count, 2, 2), generator=generator(seed)) * 100
    return torch.cat((corners.amin(1), corners.amax(1)), dim=1)


def test_formats_by_hand():
    assert cxcywh_to_xyxy(torch.tensor([10.0, 20, 4, 6])).tolist() == [8, 17, 12, 23]
    assert xyxy_to_cxcywh(torch.tensor([8.0, 17, 12, 23])).tolist() == [10, 20, 4, 6]
    assert cxcywh_to_xyxy(torch.zeros(0, 4)).shape == (0, 4)


def test_formats_are_inverse_and_equal_torchvisions():
    boxes_xyxy = random_boxes(50)
    converted = xyxy_to_cxcywh(boxes_xyxy)
    torch.testing.assert_close(converted, torchvision.ops.box_convert(boxes_xyxy, "xyxy", "cxcywh"))
    torch.testing.assert_close(cxcywh_to_xyxy(converted), boxes_xyxy)
    stacked = boxes_xyxy.view(2, 25, 4)
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(stacked)), stacked)


@pytest.mark.parametrize(
    ("photo", "network", "inner"),
    [
        ((768, 576), (416, 416), (416, 312)),
        ((100, 100), (416, 416), (416, 416)),
        ((640, 424), (416, 416), (416, 275)),  # 275.6: cut, not rounded
        ((424, 640), (416, 416), (275, 416)),
        ((400, 200), (608, 320), (608, 304)),
        ((300, 200), (608, 320), (480, 320)),
        ((1, 1), (416, 416), (416, 416)),
        ((20000, 1), (416, 416), (416, 1)),
        ((1, 20000), (416, 416), (1, 416)),
    ],
)
def test_inner_size_by_hand(photo, network, inner):
    assert Letterbox(*photo, *network).inner_size == inner


def slow_resize(image, w, h):
    """Darknet's loops on float32 (H, W, 3): columns first, then rows, corners aligned."""
    H, W, _ = image.shape
    one = np.float32(1)

    def place(i, count, length):
        if i == count - 1 or length == 1:
            return length - 1, length - 1, np.float32(0)
        position = np.float32(i) * (np.float32(length - 1) / np.float32(count - 1))
        before = min(int(position), length - 2)
        return before, before + 1, position - np.float32(before)

    part = np.empty((H, w, 3), np.float32)
    for c in range(w):
        left, right, share = place(c, w, W)
        part[:, c] = (one - share) * image[:, left] + share * image[:, right]
    result = np.empty((h, w, 3), np.float32)
    for r in range(h):
        top, bottom, share = place(r, h, H)
        result[r] = (one - share) * part[top] + share * part[bottom]
    return result


PHOTO_SIZES = [(50, 37), (37, 50), (64, 64), (8, 5), (300, 100), (1, 1), (1, 9), (9, 1), (2, 2),
               (700, 3)]  # fmt: skip


def random_photo(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("network", [(64, 64), (96, 64), (32, 96)])
@pytest.mark.parametrize("photo_size", PHOTO_SIZES)
def test_letterbox_equals_a_slow_loop(photo_size, network):
    letterbox = Letterbox(*photo_size, *network)
    photo = random_photo(*photo_size)
    w, h = letterbox.inner_size
    expected = np.full((network[1], network[0], 3), 0.5, np.float32)
    left, top = (network[0] - w) // 2, (network[1] - h) // 2
    inner = slow_resize(photo.astype(np.float32) / np.float32(255), w, h)
    expected[top : top + h, left : left + w] = inner
    image = letterbox.apply(photo)
    assert image.shape == (3, network[1], network[0]) and image.dtype == torch.float32
    assert np.abs(image.permute(1, 2, 0).numpy() - expected).max() <= 2e-5
    bars = np.ones(expected.shape[:2], bool)
    bars[top : top + h, left : left + w] = False
    assert (image.permute(1, 2, 0).numpy()[bars] == 0.5).all()


@pytest.mark.parametrize("photo_size", [(768, 576), (640, 424), (375, 500), (53, 67), (9, 1)])
def test_letterbox_equals_darknets(libdarknet, recorder, photo_size):
    photo = random_photo(*photo_size)
    planes = np.ascontiguousarray(photo.transpose(2, 0, 1), np.float32) / np.float32(255)
    boxed = libdarknet.letterbox_image(recorder.Image.of(planes), 416, 416)
    expected = boxed.planes()
    libdarknet.free_image(boxed)
    image = Letterbox(*photo_size, 416, 416).apply(photo).numpy()
    # Positions are float32: near column 700 they are exact to 6e-5 of a step of up to 1.0.
    assert np.abs(image - expected).max() <= 3e-4
    assert np.abs(image - expected).mean() <= 1e-5


def test_letterbox_leaves_the_photo_and_copies():
    photo = random_photo(64, 64)
    before = photo.copy()
    image = Letterbox(64, 64, 64, 64).apply(photo)
    image += 1
    assert np.array_equal(photo, before)


@pytest.mark.parametrize("size", [(1, 1), (20000, 1), (1, 20000), (20000, 30)])
def test_extreme_photos_can_be_letterboxed(size):
    photo = random_photo(*size)
    image = Letterbox(*size, 416, 416).apply(photo)
    assert image.shape == (3, 416, 416)
    assert image.min() >= 0 and image.max() <= 1
    assert not (image == 0.5).all()
    if size == (1, 1):
        color = torch.from_numpy(photo[0, 0] / 255).float()
        torch.testing.assert_close(image, color[:, None, None].expand(3, 416, 416))


def test_boxes_to_the_network_by_hand():
    letterbox = Letterbox(800, 400, 416, 416)  # half of it, 0.52: 416 x 208, bars of 104
    boxes_xyxy = torch.tensor([[0.0, 0, 800, 400], [100, 200, 300, 400]])
    expected = [[0, 104, 416, 312], [52, 208, 156, 312]]
    assert letterbox.to_network(boxes_xyxy).tolist() == [pytest.approx(e) for e in expected]
    odd = Letterbox(416, 415, 416, 416)  # one row of bar: half a pixel on either side
    assert odd.to_network(torch.tensor([[0.0, 0, 416, 415]])).tolist() == [[0, 0.5, 416, 415.5]]


@pytest.mark.parametrize("photo_size", [*PHOTO_SIZES, (4000, 3001), (20000, 30)])
def test_boxes_come_back(photo_size):
    letterbox = Letterbox(*photo_size, 416, 320)
    boxes_xyxy = random_boxes(20) / 100 * torch.tensor(photo_size * 2)
    back = letterbox.to_photo(letterbox.to_network(boxes_xyxy))
    torch.testing.assert_close(back, boxes_xyxy, rtol=1e-4, atol=1e-4 * max(photo_size))
    assert letterbox.to_photo(torch.zeros(0, 4)).shape == (0, 4)


def output(scale_x_y=1.0, classes=3):
    return Yolo(line=1, mask=(1, 2), anchors=(10, 14, 23, 27, 37, 58), num=3, classes=classes,
                scale_x_y=scale_x_y)  # fmt: skip


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def slow_decode(raw, block, input_size):
    """One prediction after the other, with the paper's equations."""
    B, _, H, W = raw.shape
    rows = []
    for b in range(B):
        for y in range(H):
            for x in range(W):
                for a, (pw, ph) in enumerate(block.anchors_wh):
                    first = a * (5 + block.classes)
                    tx, ty, tw, th, to, *classes = raw[b, first : first + 5 + block.classes, y, x]
                    s = block.scale_x_y
                    bx = (x + s * sigmoid(tx) - (s - 1) / 2) * input_size[1] / W
                    by = (y + s * sigmoid(ty) - (s - 1) / 2) * input_size[0] / H
                    bw, bh = pw * math.exp(tw), ph * math.exp(th)
                    box = (bx - bw / 2, by - bh / 2, bx + bw / 2, by + bh / 2)
                    rows.append((b, box, sigmoid(to), [sigmoid(c) for c in classes]))
    return rows


@pytest.mark.parametrize("scale_x_y", [1.0, 1.05, 2.0])
def test_decoding_equals_a_slow_loop(scale_x_y):
    block = output(scale_x_y)
    raw = torch.randn((2, 16, 3, 4), generator=generator())
    found = decode(raw, block, (96, 128))
    expected = slow_decode(raw.numpy(), block, (96, 128))
    photo, box, objectness, probabilities = zip(*expected, strict=True)
    assert found.photo_index.tolist() == list(photo)
    torch.testing.assert_close(found.boxes_xyxy, torch.tensor(box), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.objectness, torch.tensor(objectness))
    torch.testing.assert_close(found.class_probabilities, torch.tensor(probabilities))


def test_one_cell_by_hand():
    """Logits of 0 put the box in the middle of its cell, as large as its anchor."""
    found = decode(torch.zeros(1, 16, 13, 13), output(), (416, 416))
    assert len(found.objectness) == 13 * 13 * 2
    cell = (2 * 13 + 5) * 2  # row 2, column 5, first anchor: 23 x 27, centre (5.5, 2.5) * 32
    assert found.boxes_xyxy[cell].tolist() == [176 - 11.5, 80 - 13.5, 176 + 11.5, 80 + 13.5]
    assert found.boxes_xyxy[cell + 1].tolist() == [176 - 18.5, 80 - 29, 176 + 18.5, 80 + 29]
    assert found.objectness[0] == 0.5 and found.class_probabilities[0].tolist() == [0.5] * 3


def test_wide_centres_by_hand():
    """With scale_x_y = 2 and a logit of minus infinity the centre is half a cell outside."""
    raw = torch.zeros(1, 16, 1, 1)
    raw[0, 0] = -100
    box = decode(raw, output(2.0), (32, 32)).boxes_xyxy[0]
    assert ((box[0] + box[2]) / 2).item() == pytest.approx(-16)
    assert ((box[1] + box[3]) / 2).item() == pytest.approx(16)


@pytest.mark.parametrize("minimum", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_least_objectness_drops_what_is_not_above(minimum):
    raw = torch.randn((2, 16, 5, 4), generator=generator()) * 2
    every, some = decode(raw, output(), (160, 128)), decode(raw, output(), (160, 128), minimum)
    kept = every.objectness > minimum
    assert torch.equal(some.boxes_xyxy, every.boxes_xyxy[kept])
    assert torch.equal(some.photo_index, every.photo_index[kept])
    assert torch.equal(some.class_probabilities, every.class_probabilities[kept])


def test_raw_outputs_in_half_precision_are_decoded_in_float32():
    raw = torch.randn((1, 16, 2, 2), generator=generator()).bfloat16()
    found = decode(raw, output(), (64, 64), 0.3)
    assert found.boxes_xyxy.dtype == found.objectness.dtype == torch.float32
    torch.testing.assert_close(
        found.boxes_xyxy, decode(raw.float(), output(), (64, 64), 0.3).boxes_xyxy
    )


def slow_suppress(boxes_xyxy, scores, labels, iou_threshold):
    """Best first; take a box unless a taken one of its class overlaps it more than allowed."""
    kept = []
    for i in scores.argsort(descending=True, stable=True).tolist():
        overlaps = [
            torchvision.ops.box_iou(boxes_xyxy[i : i + 1], boxes_xyxy[k : k + 1]).item()
            for k in kept
            if labels[k] == labels[i]
        ]
        if all(overlap <= iou_threshold for overlap in overlaps):
            kept.append(i)
    return kept


@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.45, 1.0])
def test_suppression_equals_a_slow_loop(iou_threshold):
    boxes_xyxy = random_boxes(120, 5)
    scores = torch.rand(120, generator=generator(6))
    labels = torch.randint(0, 3, (120,), generator=generator(7))
    found = suppress(boxes_xyxy, scores, labels, iou_threshold)
    kept = slow_suppress(boxes_xyxy, scores, labels, iou_threshold)
    for tensor, reference in zip(found, (boxes_xyxy, scores, labels), strict=True):
        assert torch.equal(tensor, reference[kept])


def test_suppression_by_hand_around_the_threshold():
    # IoU of the first two is 60 / 140, of first and third 40 / 160
    boxes_xyxy = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [6, 0, 16, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    same, different = torch.tensor([1, 1, 1]), torch.tensor([1, 2, 1])
    # the second goes for the first; the third then stays, though the second overlaps it by 2 / 3
    assert suppress(boxes_xyxy, scores, same, 0.3)[1].tolist() == pytest.approx([0.9, 0.7])
    assert len(suppress(boxes_xyxy[:2], scores[:2], same[:2], 60 / 140 + 1e-4)[1]) == 2
    assert len(suppress(boxes_xyxy[:2], scores[:2], same[:2], 60 / 140 - 1e-4)[1]) == 1
    assert len(suppress(boxes_xyxy[:2], scores[:2], different[:2], 0.1)[1]) == 2


def test_suppression_of_nothing():
    found = suppress(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5)
    assert [len(tensor) for tensor in found] == [0, 0, 0]


def test_very_many_boxes_are_limited_to_the_best(monkeypatch):
    monkeypatch.setattr(boxes, "MAX_CANDIDATES", 10)
    boxes_xyxy = torch.arange(40.0)[:, None] * 10 + torch.tensor([0.0, 0, 5, 5])
    scores = torch.rand(40, generator=generator())
    found = suppress(boxes_xyxy, scores, torch.zeros(40, dtype=torch.int64), 0.5)
    assert torch.equal(found[1], scores.sort(descending=True).values[:10])


def logit(p):
    return math.log(p / (1 - p))


def raw_with(*objects):
    """A raw output of 2 x 2 cells where only some predictions are likely: (b, a, y, x, o, c)."""
    raw = torch.full((2, 16, 2, 2), -20.0)
    raw[:, [0, 1, 2, 3, 8, 9, 10, 11]] = 0
    for b, a, y, x, objectness, probabilities in objects:
        raw[b, a * 8 + 4, y, x] = logit(objectness)
        raw[b, a * 8 + 5 : a * 8 + 8, y, x] = torch.tensor([logit(p) for p in probabilities])
    return raw


def test_scores_are_objectness_times_class():
    raw = raw_with((0, 0, 0, 1, 0.8, (0.9, 0.5, 0.1)), (1, 1, 1, 0, 0.9, (0.1, 0.2, 0.95)))
    first, second = postprocess([raw], [output()], (64, 64), 0.25, 0.45)
    assert first[1].tolist() == pytest.approx([0.72, 0.4])  # one box, two classes
    assert first[2].tolist() == [0, 1]
    assert first[0].tolist() == [[48 - 11.5, 16 - 13.5, 48 + 11.5, 16 + 13.5]] * 2
    assert second[1].tolist() == pytest.approx([0.855])
    assert second[2].tolist() == [2]


@pytest.mark.parametrize(("threshold", "count"), [(0.7199, 1), (0.7201, 0), (0.3999, 2)])
def test_score_threshold(threshold, count):
    raw = raw_with((0, 0, 0, 1, 0.8, (0.9, 0.5, 0.1)))
    found, empty = postprocess([raw], [output()], (64, 64), threshold, 0.45)
    assert [len(part) for part in found] == [count] * 3
    assert [tuple(part.shape) for part in empty] == [(0, 4), (0,), (0,)]
    assert empty[2].dtype == torch.int64


@pytest.mark.parametrize("threshold", [0.0, 0.25, 1.0])
def test_a_batch_is_postprocessed_like_single_photos(threshold):
    raws = [torch.randn((3, 16, n, n), generator=generator(n)) for n in (4, 8)]
    together = postprocess(raws, [output(), output()], (128, 128), threshold, 0.45)
    for index, parts in enumerate(together):
        single = [raw[index : index + 1] for raw in raws]
        (alone,) = postprocess(single, [output(), output()], (128, 128), threshold, 0.45)
        assert all(torch.equal(one, other) for one, other in zip(parts, alone, strict=True))


def test_detections_come_best_first():
    raw = torch.randn((1, 16, 6, 6), generator=generator())
    ((_, scores, _),) = postprocess([raw], [output()], (192, 192), 0.3, 0.45)
    assert len(scores) > 3 and scores.tolist() == sorted(scores.tolist(), reverse=True)


@pytest.mark.parametrize("size", [(741, 500), (640, 427), (97, 33)])
def test_a_white_photo_never_exceeds_one(size):
    width, height = size
    image = Letterbox(width, height, 416, 416).apply(np.full((height, width, 3), 255, np.uint8))
    assert image.max() == 1.0
