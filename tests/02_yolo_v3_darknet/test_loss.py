"""Training targets and loss: against Darknet's own gradients, a slow loop, and numbers by hand.

`darknet_loss_reference.json` was made from libdarknet by `record_darknet_loss.py`. Where Darknet
is installed, its training is run again, the kernels' gradients included.
"""

import dataclasses
import importlib.util
import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import complete_box_iou_loss

from boxes import MAX_SIZE_LOGIT, cxcywh_to_xyxy, decode_cells
from darknet.network import Darknet, DarknetFileError
from darknet.pretrained import initialise_outputs
from losses import BOX_LOSSES, YoloLoss, ciou_box_loss
from targets import Assignment

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-5  # of the largest gradient; the goal of the lesson is 1e-3


def load_recorder():
    spec = importlib.util.spec_from_file_location(
        "record_darknet_loss", HERE / "record_darknet_loss.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RECORDER = load_recorder()
SIZE = (RECORDER.HEIGHT, RECORDER.WIDTH)
CLASSES = RECORDER.CLASSES


@pytest.fixture
def network(write_cfg):
    """The recorder's network of three outputs; keywords replace values in its [yolo] blocks."""

    def build(extra="", **values):
        values = {"ignore": 0.3, "truth": 1.0, **values}
        text = RECORDER.cfg_text(**values)
        return Darknet(write_cfg(text.replace("num=6\n", f"num=6\n{extra}")))

    return build


def as_targets(truths):
    """Darknet's x, y, w, h, class of each image as this lesson's (M, 6)."""
    rows = [
        [image, int(label), *box] for image, truth in enumerate(truths) for *box, label in truth
    ]
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)


def random_case(seed, photos=2, most=8):
    """Random raw outputs for the recorder's network, and random objects."""
    random = torch.Generator().manual_seed(seed)
    height, width = SIZE
    outputs = [
        torch.randn(
            photos, RECORDER.ANCHORS_EACH * (5 + CLASSES), height // s, width // s, generator=random
        )
        for s in (16, 8, 4)
    ]
    count = int(torch.randint(most + 1, (), generator=random))
    targets = torch.rand(count, 6, generator=random) * 0.98 + 0.01
    targets[:, 0] = torch.randint(photos, (count,), generator=random)
    targets[:, 1] = torch.randint(CLASSES, (count,), generator=random)
    targets[:, 4:] = 0.04 * 20 ** targets[:, 4:]
    return outputs, targets.clamp(max=photos)


# --- Darknet itself ---------------------------------------------------------------------------


def gradient_difference(loss, outputs, targets, deltas):
    """The largest difference from Darknet's deltas, as a share of the largest delta."""
    for raw in outputs:
        raw.retain_grad()
    sum(loss(outputs, targets, SIZE).values()).backward()
    worst = 0.0
    for raw, delta in zip(outputs, deltas, strict=True):
        delta = torch.as_tensor(delta)
        assert delta.shape == raw.shape
        ours = -raw.grad * len(raw)  # Darknet's points downhill and is not divided by the batch
        worst = max(worst, ((ours - delta).abs().max() / delta.abs().max()).item())
    return worst


def test_gradients_equal_the_recorded_ones_of_darknet(write_cfg):
    reference = json.loads((HERE / "darknet_loss_reference.json").read_text())
    model = Darknet(write_cfg(reference["cfg"]))
    outputs, deltas = (
        [torch.tensor(one[name]).view(one["shape"]) for one in reference["outputs"]]
        for name in ("raw", "delta")
    )
    outputs = [raw.requires_grad_() for raw in outputs]
    targets = as_targets(reference["truths"])
    loss = YoloLoss(model, box_loss="darknet", positive_iou=None)
    assert gradient_difference(loss, outputs, targets, deltas) <= TOLERANCE
    norm = sum(float((raw.grad * len(raw)).square().sum()) for raw in outputs)
    # What Darknet prints as its loss is the mean of its outputs' squared gradients.
    assert norm / len(outputs) == pytest.approx(reference["cost"], rel=1e-5)


def test_the_recorded_case_holds_what_it_should(write_cfg):
    reference = json.loads((HERE / "darknet_loss_reference.json").read_text())
    model = Darknet(write_cfg(reference["cfg"]))
    outputs = [torch.tensor(one["raw"]).view(one["shape"]) for one in reference["outputs"]]
    targets = as_targets(reference["truths"])
    loss = YoloLoss(model, box_loss="darknet", positive_iou=None)
    assignments = loss.build_targets(outputs, targets, SIZE)
    assert all(len(one.row) >= 2 for one in assignments)  # each output answers for objects
    assert all(one.ignored.any() for one in assignments)
    assert any((one.class_targets.sum(dim=1) > 1).any() for one in assignments)  # a shared place


@pytest.mark.parametrize(
    ("ignore", "truth", "seed"), [(0.3, 1.0, 1), (0.5, 1.0, 2), (0.7, 1.0, 3), (0.3, 0.45, 4)]
)
def test_gradients_of_outputs_and_kernels_equal_libdarknet(
    libdarknet, tmp_path, ignore, truth, seed
):
    result = RECORDER.record(tmp_path, ignore, truth, seed)
    model = Darknet(tmp_path / "loss.cfg").train()
    model.load_weights(tmp_path / "loss.weights")
    outputs = model(torch.from_numpy(result["images"]))
    for raw, theirs in zip(outputs, result["raw"], strict=True):
        assert (raw - torch.from_numpy(theirs)).abs().max() <= 1e-4
    loss = YoloLoss(model, box_loss="darknet", positive_iou=None)
    targets = as_targets(result["truths"])
    assert gradient_difference(loss, outputs, targets, result["delta"]) <= TOLERANCE
    for index, updates in result["weight_updates"].items():
        ours = -model.stages[index].conv.weight.grad.flatten() * RECORDER.BATCH
        theirs = torch.from_numpy(updates)
        assert (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max(), f"layer {index}"


# --- a slow, obvious reference ----------------------------------------------------------------


def iou_of(a, b):
    """IoU of two (cx, cy, w, h)."""
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        for i in (0, 1)
    ]
    if min(sides) <= 0:
        return 0.0
    shared = sides[0] * sides[1]
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def cross_entropy(logit, wanted):
    return -wanted * math.log(sigmoid(logit)) - (1 - wanted) * math.log(1 - sigmoid(logit))


def predicted_box(values, block, anchor, row, column, grid):
    spread, (height, width) = block.scale_x_y, SIZE
    pw, ph = block.anchors_wh[anchor]
    return (
        (column + spread * sigmoid(values[0]) - (spread - 1) / 2) / grid[1],
        (row + spread * sigmoid(values[1]) - (spread - 1) / 2) / grid[0],
        pw * math.exp(values[2]) / width,
        ph * math.exp(values[3]) / height,
    )


def slow_places(blocks, grids, targets, positive_iou):
    """{(output, image, anchor, row, column): (object, {classes})}, object by object."""
    height, width = SIZE
    claims = []  # (priority, object, place)
    for number, (image, _, cx, cy, w, h) in enumerate(targets):
        shapes = [
            (iou_of((0, 0, w * width, h * height), (0, 0, *wh)), -index, k, a)
            for k, block in enumerate(blocks)
            for a, (index, wh) in enumerate(zip(block.mask, block.anchors_wh, strict=True))
        ]
        best = max(shapes)
        for shape in shapes:
            if shape != best and (positive_iou is None or shape[0] <= positive_iou):
                continue
            k, a = shape[2:]
            rows, columns = grids[k]
            own = (min(int(cy * rows), rows - 1), min(int(cx * columns), columns - 1))
            claims.append((int(shape == best), number, (k, int(image), a, *own)))
    places = {}
    for priority, number, place in sorted(claims):  # later ones win
        kept = places.get(place)
        classes = set(kept[2]) if kept and kept[0] == priority else set()
        places[place] = (priority, number, classes | {int(targets[number][1])})
    return {place: (number, classes) for place, (_, number, classes) in places.items()}


def slow_loss(model, outputs, targets, *, positive_iou=None):
    """Darknet's loss, one prediction after the other in Python; (box, objectness, class)."""
    blocks, rows_of = model.outputs, targets.tolist()
    grids = [tuple(raw.shape[2:]) for raw in outputs]
    places = slow_places(blocks, grids, rows_of, positive_iou)
    height, width = SIZE
    terms = [0.0, 0.0, 0.0]
    for k, (raw, block) in enumerate(zip(outputs, blocks, strict=True)):
        ignore = float(dict(block.extra)["ignore_thresh"])
        cells = raw.unflatten(1, (len(block.mask), -1)).permute(0, 1, 3, 4, 2).tolist()
        for b, a, row, column in torch.cartesian_prod(
            *(torch.arange(n) for n in (len(raw), len(block.mask), *grids[k]))
        ).tolist():
            values = cells[b][a][row][column]
            box = predicted_box(values, block, a, row, column, grids[k])
            if (k, b, a, row, column) in places:
                number, classes = places[k, b, a, row, column]
                cx, cy, w, h = rows_of[number][2:]
                scale, spread = 2 - w * h, block.scale_x_y
                for value, wanted in (
                    (values[0], cx * grids[k][1] - column),
                    (values[1], cy * grids[k][0] - row),
                ):
                    share = (wanted + (spread - 1) / 2) / spread
                    terms[0] += scale * cross_entropy(value, share)
                pw, ph = block.anchors_wh[a]
                terms[0] += scale / 2 * (values[2] - math.log(w * width / pw)) ** 2
                terms[0] += scale / 2 * (values[3] - math.log(h * height / ph)) ** 2
                terms[1] += cross_entropy(values[4], 1)
                for c, value in enumerate(values[5:]):
                    terms[2] += cross_entropy(value, float(c in classes))
            elif all(iou_of(box, row[2:]) <= ignore for row in rows_of if row[0] == b):
                terms[1] += cross_entropy(values[4], 0)
    return [term / len(outputs[0]) for term in terms]


@pytest.mark.parametrize("positive_iou", [None, 0.2, 0.4])
@pytest.mark.parametrize("extra", ["", "scale_x_y=1.6\n"])
@pytest.mark.parametrize("seed", range(3))
def test_loss_equals_a_slow_loop(network, seed, extra, positive_iou):
    model = network(extra)
    outputs, targets = random_case(seed)
    loss = YoloLoss(model, box_loss="darknet", positive_iou=positive_iou)
    fast = loss(outputs, targets, SIZE)
    slow = slow_loss(model, outputs, targets, positive_iou=positive_iou)
    assert list(fast) == ["box", "objectness", "class"]
    for ours, theirs in zip(fast.values(), slow, strict=True):
        assert ours.item() == pytest.approx(theirs, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_places_equal_a_slow_loop(network, seed):
    model = network("scale_x_y=2\n")
    outputs, targets = random_case(seed, photos=3, most=40)
    loss = YoloLoss(model, positive_iou=0.3)
    found = {}
    for k, one in enumerate(loss.build_targets(outputs, targets, SIZE)):
        for p, place in enumerate(zip(*(part.tolist() for part in one.place), strict=True)):
            assert torch.equal(one.boxes_cxcywh[p], targets[one.object_index[p], 2:])
            classes = set(one.class_targets[p].nonzero().flatten().tolist())
            found[(k, *place)] = (int(one.object_index[p]), classes)
    grids = [tuple(raw.shape[2:]) for raw in outputs]
    assert found == slow_places(model.outputs, grids, targets.tolist(), 0.3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), photos=st.integers(1, 4), box_loss=st.sampled_from(BOX_LOSSES))
def test_any_case_gives_finite_terms_and_gradients(seed, photos, box_loss):
    outputs, targets = random_case(seed, photos)
    model = HYPOTHESIS_MODEL
    outputs = [(8 * raw).requires_grad_() for raw in outputs]
    loss = YoloLoss(model, box_loss=box_loss, positive_iou=0.4)
    terms = loss(outputs, targets, SIZE)
    assert all(math.isfinite(term.item()) and term.item() >= 0 for term in terms.values())
    sum(terms.values()).backward()
    assert all(raw.grad.isfinite().all() for raw in outputs)


@pytest.fixture(autouse=True, scope="module")
def hypothesis_model(tmp_path_factory):
    """hypothesis asks for fixtures that outlive one example."""
    global HYPOTHESIS_MODEL
    path = tmp_path_factory.mktemp("cfg") / "net.cfg"
    path.write_text(RECORDER.cfg_text(0.5, 1.0))
    HYPOTHESIS_MODEL = Darknet(path)


# --- by hand ----------------------------------------------------------------------------------


def test_one_object_by_hand(network):
    """A box of 20 x 16 pixels at (35, 13): the anchor 20,16 of the middle output (stride 8), cell
    (4, 1), with the centre at 3/8 and 5/8 of it."""
    model = network(ignore=1.0)
    outputs = [torch.zeros(1, 16, 2, 4), torch.zeros(1, 16, 4, 8), torch.zeros(1, 16, 8, 16)]
    targets = torch.tensor([[0, 2, 35 / 64, 13 / 32, 20 / 64, 16 / 32]])
    loss = YoloLoss(model, box_loss="darknet", positive_iou=None)
    coarse, middle, fine = loss.build_targets(outputs, targets, SIZE)
    assert len(coarse.row) == len(fine.row) == 0
    assert [int(part) for part in middle.place] == [0, 1, 1, 4]
    assert middle.class_targets.tolist() == [[0, 0, 1]]
    terms = loss(outputs, targets, SIZE)
    scale = 2 - 20 / 64 * 16 / 32
    assert terms["box"].item() == pytest.approx(scale * 2 * math.log(2), rel=1e-6)
    predictions = 2 * (2 * 4 + 4 * 8 + 8 * 16)
    assert terms["objectness"].item() == pytest.approx(predictions * math.log(2), rel=1e-5)
    assert terms["class"].item() == pytest.approx(3 * math.log(2), rel=1e-6)


def test_ciou_by_hand(network):
    """Predicted 20 x 16 at (36, 12), wanted 10 x 16 at (35, 13): IoU, distance and shape terms."""
    model = network(ignore=1.0)
    outputs = [torch.zeros(1, 16, 2, 4), torch.zeros(1, 16, 4, 8), torch.zeros(1, 16, 8, 16)]
    targets = torch.tensor([[0, 0, 35 / 64, 13 / 32, 10 / 64, 16 / 32]])
    loss = YoloLoss(model, box_loss="ciou", positive_iou=0.49)
    middle = loss.build_targets(outputs, targets, SIZE)[1]
    mine = middle.anchor == 1  # IoU of the shapes is 0.5, just above
    assert mine.sum() == 1
    losses = ciou_box_loss(
        torch.zeros(len(mine), 4), model.outputs[1], middle, outputs[1].shape[2:], SIZE
    )
    iou = 10 * 15 / (20 * 16 + 10 * 16 - 10 * 15)
    diagonal = 20**2 + 17**2
    shape = 4 / math.pi**2 * (math.atan(10 / 16) - math.atan(20 / 16)) ** 2
    penalty = (1 + 1) / diagonal + shape**2 / (1 - iou + shape)
    assert losses[mine].item() == pytest.approx(15 * (1 - iou + penalty), rel=1e-5)
    assert [len(one.row) for one in loss.build_targets(outputs, targets, SIZE)] == [0, 2, 0]
    assert loss(outputs, targets, SIZE)["box"].item() == pytest.approx(losses.sum().item())


def test_a_perfect_prediction_costs_nothing(network):
    model = network()
    outputs = [torch.zeros(1, 16, 2, 4), torch.zeros(1, 16, 4, 8), torch.zeros(1, 16, 8, 16)]
    for raw in outputs:
        raw.view(1, 2, 8, *raw.shape[2:])[:, :, 4] = -30
    targets = torch.tensor([[0, 1, 36 / 64, 12 / 32, 20 / 64, 16 / 32]])
    outputs[1][0, 8 + 4 :, 1, 4] = torch.tensor([30.0, -30, 30, -30])
    terms = YoloLoss(model, box_loss="ciou")(outputs, targets, SIZE)
    assert sum(terms.values()).item() == pytest.approx(0, abs=1e-4)


def one_output_far_out(count, block, random):
    """Raw values and objects for one output of 2048 x 2048 pixels, cells of 8."""
    cell = torch.randint(128, 256, (2, count), generator=random)
    boxes = torch.rand(count, 4, generator=random) * 0.1 + 0.01
    boxes[:, :2] = (cell.T + torch.rand(count, 2, generator=random)) / 256
    anchor = torch.randint(len(block.mask), (count,), generator=random)
    zero = torch.zeros_like(anchor)
    return Assignment(zero, anchor, cell[1], cell[0], zero, boxes, zero, zero)


def test_ciou_and_its_gradient_equal_those_of_exact_boxes(network):
    """From a cell's corner in float32, or from the picture's in float64: the same."""
    block, random = network().outputs[2], torch.Generator().manual_seed(0)
    one = one_output_far_out(200, block, random)
    values = torch.randn(200, 4, generator=random)
    ours, exact = values.clone().requires_grad_(), values.double().requires_grad_()
    loss = ciou_box_loss(ours, block, one, (256, 256), (2048, 2048))
    anchors = exact.new_tensor(block.anchors_wh)[one.anchor]
    centre, size = decode_cells(exact, torch.stack((one.column, one.row), 1), anchors, 1.0)
    predicted = torch.cat((centre * 8, size), dim=1)
    wanted = one.boxes_cxcywh.double() * 2048
    oracle = 15 * complete_box_iou_loss(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(wanted))
    torch.testing.assert_close(loss.double(), oracle, rtol=1e-4, atol=1e-4)
    loss.sum().backward()
    oracle.sum().backward()
    torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=1e-3, atol=1e-3)


def test_ciou_of_the_smallest_boxes_has_a_gradient(network):
    """Anchors of one pixel; from the picture's corner, float32 leaves such a box no size."""
    block, random = network().outputs[2], torch.Generator().manual_seed(0)
    block = dataclasses.replace(block, anchors=(1.0,) * len(block.anchors))
    one = one_output_far_out(2000, block, random)
    values = torch.full((2000, 4), -MAX_SIZE_LOGIT).requires_grad_()
    loss = ciou_box_loss(values, block, one, (256, 256), (2048, 2048))
    loss.sum().backward()
    assert loss.isfinite().all() and values.grad.isfinite().all()


@pytest.mark.parametrize(("threshold", "ignored"), [(0.49, True), (0.51, False)])
def test_ignored_just_above_the_threshold(network, threshold, ignored):
    """The anchor 20,16 in the object's cell overlaps the object, 10 x 16 at its centre, by 0.5."""
    outputs = [torch.zeros(1, 16, 2, 4), torch.zeros(1, 16, 4, 8), torch.zeros(1, 16, 8, 16)]
    targets = torch.tensor([[0, 0, 36 / 64, 12 / 32, 10 / 64, 16 / 32]])
    loss = YoloLoss(network(ignore=threshold), positive_iou=None)
    assert bool(loss.build_targets(outputs, targets, SIZE)[1].ignored[0, 1, 1, 4]) == ignored


def test_the_thresholds_of_the_cfg_count(network):
    loss = YoloLoss(network(ignore=0.6, truth=0.9))
    assert loss.ignore_thresholds == [0.6] * 3 and loss.truth_thresholds == [0.9] * 3


def test_a_photo_without_objects_still_learns_objectness(network):
    outputs, _ = random_case(0)
    outputs = [raw.requires_grad_() for raw in outputs]
    terms = YoloLoss(network())(outputs, torch.zeros(0, 6), SIZE)
    assert terms["box"] == terms["class"] == 0 < terms["objectness"]
    sum(terms.values()).backward()
    for raw in outputs:
        objectness = raw.grad.view(2, 2, 8, *raw.shape[2:])[:, :, 4]
        assert (objectness > 0).all() and raw.grad.count_nonzero() == objectness.numel()


def test_batched_equals_single(network):
    loss = YoloLoss(network())
    outputs, targets = random_case(5)
    assert {0, 1} == set(targets[:, 0].tolist())
    together = loss(outputs, targets, SIZE)
    alone = []
    for photo in (0, 1):
        mine = targets[targets[:, 0] == photo].clone()
        mine[:, 0] = 0
        alone.append(loss([raw[photo : photo + 1] for raw in outputs], mine, SIZE))
    for name, term in together.items():
        assert term.item() == pytest.approx(sum(one[name].item() for one in alone) / 2, rel=1e-5)


def test_a_centre_on_the_far_edge_counts_to_the_last_cell(network):
    outputs, _ = random_case(0)
    targets = torch.tensor([[1, 0, 1.0, 1.0, 0.3, 0.5]])
    places = [
        one.place
        for one in YoloLoss(network(), positive_iou=None).build_targets(outputs, targets, SIZE)
        if len(one.row)
    ]
    assert [[int(part) for part in place] for place in places] == [[1, 1, 3, 7]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_computes_in_float32_inside_autocast(network, dtype):
    outputs, targets = random_case(5)
    half = [raw.to(dtype) for raw in outputs]
    loss = YoloLoss(network())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = loss(half, targets, SIZE)
    exact = loss([raw.float() for raw in half], targets, SIZE)
    assert all(term.dtype == torch.float32 for term in terms.values())
    assert [term.item() for term in terms.values()] == [term.item() for term in exact.values()]


def test_twice_the_same(network):
    outputs, targets = random_case(3, most=40)
    loss = YoloLoss(network("scale_x_y=2\n"), positive_iou=0.2)
    runs = []
    for _ in range(2):
        copies = [raw.clone().requires_grad_() for raw in outputs]
        sum(loss(copies, targets, SIZE).values()).backward()
        runs.append([raw.grad for raw in copies])
    assert all(torch.equal(one, two) for one, two in zip(*runs, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_cuda_equals_cpu(network):
    outputs, targets = random_case(3, most=40)
    loss = YoloLoss(network())
    here = loss(outputs, targets, SIZE)
    there = loss([raw.cuda() for raw in outputs], targets, SIZE)
    for name, term in here.items():
        assert there[name].item() == pytest.approx(term.item(), rel=1e-4)


# --- first values of the output layers --------------------------------------------------------


def test_initialised_outputs_expect_few_objects(network):
    model = network()
    initialise_outputs(model, objects_per_photo=8)
    outputs = model(torch.rand(2, 3, *SIZE))
    objectness = [raw.view(2, 2, 8, *raw.shape[2:])[:, :, 4].sigmoid().sum() for raw in outputs]
    assert sum(objectness).item() / 2 == pytest.approx(8, rel=0.2)
    classes = outputs[0].view(2, 2, 8, *outputs[0].shape[2:])[:, :, 5:].sigmoid()
    assert classes.mean().item() == pytest.approx(1 / CLASSES, rel=0.1)


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"box_loss": "giou"}, "box_loss must be one of darknet, ciou, got 'giou'"),
        ({"positive_iou": 1.5}, "positive_iou must be from 0 to 1, got 1.5"),
    ],
)
def test_options_that_are_not_allowed(network, options, message):
    with pytest.raises(ValueError, match=message):
        YoloLoss(network(), **options)


@pytest.mark.parametrize(
    "row",
    [
        [2, 0, 0.5, 0.5, 0.1, 0.1],
        [0, 3, 0.5, 0.5, 0.1, 0.1],
        [0, -1, 0.5, 0.5, 0.1, 0.1],
        [0, 0, 1.5, 0.5, 0.1, 0.1],
        [0, 0, 0.5, 0.5, 0.0, 0.1],
        [0, 0, 0.5, math.nan, 0.1, 0.1],
        [0, 0, 0.5, 0.5, math.inf, 0.1],
    ],
)
def test_targets_that_cannot_be_used(network, row):
    outputs, _ = random_case(0)
    targets = torch.tensor([[0, 0, 0.5, 0.5, 0.1, 0.1], row])
    with pytest.raises(ValueError, match="targets, row 1: .* image index from 0 to 1, a class"):
        YoloLoss(network())(outputs, targets, SIZE)


def test_targets_of_another_shape(network):
    outputs, _ = random_case(0)
    with pytest.raises(ValueError, match=r"targets must have shape \(M, 6\), got \(3, 5\)"):
        YoloLoss(network())(outputs, torch.ones(3, 5), SIZE)


def test_a_cfg_that_cannot_be_trained(network, write_cfg):
    with pytest.raises(DarknetFileError, match="has no .yolo. block to train"):
        YoloLoss(Darknet(write_cfg("[net]\n[convolutional]\nfilters=2\n", "plain.cfg")))
    with pytest.raises(DarknetFileError, match="ignore_thresh='high' in the .yolo. block of line"):
        YoloLoss(network(ignore="high"))
    with pytest.raises(ValueError, match="objects_per_photo must be above 0, got 0"):
        initialise_outputs(network(), objects_per_photo=0)
    text = RECORDER.cfg_text(0.5, 1.0).replace(
        "filters=16\nsize=3", "batch_normalize=1\nfilters=16\nsize=3", 1
    )
    with pytest.raises(DarknetFileError, match="must follow a .convolutional. block without"):
        initialise_outputs(Darknet(write_cfg(text)))
