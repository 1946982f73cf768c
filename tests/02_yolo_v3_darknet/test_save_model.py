"""A network trained here, written as a Darknet model: several programs find the same objects."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from darknet_pipeline import DarknetPipeline
from torchvision.ops import box_iou

from darknet.network import Darknet
from darknet.pretrained import initialise_outputs
from darknet.save import for_one_photo, portable, save_darknet
from losses import YoloLoss
from speed.pipelines import OpenCVPipeline, OurPipeline, Work, find

SIZE, NAMES = 64, ["red thing", "green thing", "blue thing"]
BATCH_NORM = "batch_normalize=1\n"
CONVOLUTION = "[convolutional]\n{}filters={}\nsize={}\nstride={}\npad=1\nactivation={}\n\n"
YOLO = (
    "[yolo]\nmask={}\nanchors=8,8, 12,16, 18,12, 20,24, 30,20, 32,36\nclasses=3\nnum=6\n"
    "ignore_thresh=.7\ntruth_thresh=1\n\n"
)
SCORE_TOLERANCE, BOX_TOLERANCE = 0.01, 1.0  # pixels


def cfg_text():
    convolutions = [(12, 2), (24, 2), (32, 2), (48, 2), (48, 1)]
    body = "".join(CONVOLUTION.format(BATCH_NORM, n, 3, s, "leaky") for n, s in convolutions)
    head = CONVOLUTION.format("", 24, 1, 1, "linear")
    net = "[net]\nbatch=8\nsubdivisions=2\nwidth=64\nheight=64\nchannels=3\nlearning_rate=0.001\n\n"
    up = "[route]\nlayers=4\n\n[upsample]\nstride=2\n\n[route]\nlayers=-1,2\n\n"
    return net + body + head + YOLO.format("3,4,5") + up + head + YOLO.format("0,1,2")


def scenes(count, seed):
    """Noise with one to three rectangles in their class's colour: images, targets (M, 6)."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 110, (count, SIZE, SIZE, 3), dtype=np.uint8)
    rows = []
    for number, image in enumerate(images):
        for _ in range(random.integers(1, 4)):
            label, (w, h) = random.integers(3), random.integers(8, 33, 2)
            x, y = random.integers(0, SIZE - w + 1), random.integers(0, SIZE - h + 1)
            image[y : y + h, x : x + w] = random.integers(0, 40, 3)
            image[y : y + h, x : x + w, label] = random.integers(180, 256)
            box = np.array((x + w / 2, y + h / 2, w, h)) / SIZE
            rows.append([number, label, *box])
    return images, torch.tensor(np.array(rows), dtype=torch.float32)


def train(model, steps):
    """Some steps of plain training; the network is left in evaluation mode."""
    torch.manual_seed(0)
    initialise_outputs(model, objects_per_photo=2)
    loss = YoloLoss(model, box_loss="ciou", positive_iou=0.4)  # learns faster
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    history = []
    model.train()
    for step in range(steps):
        images, targets = scenes(16, seed=step)
        outputs = model(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
        total = sum(loss(outputs, targets, (SIZE, SIZE)).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
        history.append(total.item())
    model.eval()
    return history


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained model's folder, the network and the history of its loss."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "base.cfg").write_text(cfg_text())
    model = Darknet(folder / "base.cfg")
    history = train(model, steps=120)
    save_darknet(model, NAMES, folder / "out", "things")
    return folder / "out", model, history


@pytest.fixture
def work(trained):
    """The three files, as the pipelines of the benchmark take them."""
    folder = trained[0]
    files = [str(folder / f"things.{ending}") for ending in ("cfg", "weights", "names")]
    return Work(*files, photo="", size=SIZE, score_threshold=0.25, iou_threshold=0.45)


def assert_same(found, expected):
    """The same detections, apart from those that the thresholds cut in one program only."""

    def lonely(some, others):
        for label, score, box in some:
            fits = (
                c == label
                and abs(s - score) <= SCORE_TOLERANCE
                and np.abs(np.subtract(b, box)).max() <= BOX_TOLERANCE
                for c, s, b in others
            )
            if score > 0.25 + SCORE_TOLERANCE and not any(fits):
                yield label, score, box

    assert not [*lonely(found, expected), *lonely(expected, found)]


def test_training_lowers_the_loss(trained):
    history = trained[2]
    assert np.mean(history[-10:]) < 0.5 * np.mean(history[:10])


def test_it_finds_the_objects(work):
    images, targets = scenes(20, seed=10_000)
    pipeline = OurPipeline(work, "torch-fp32")
    hits = 0
    for number, image in enumerate(images):
        found = find(pipeline, [image])[0]
        for _, label, cx, cy, w, h in targets[targets[:, 0] == number].tolist():
            box = torch.tensor([[cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]]) * SIZE
            same = [b for c, _, b in found if c == label]
            hits += bool(same) and bool(box_iou(box, torch.tensor(same)).max() > 0.5)
    assert hits >= 0.5 * len(targets)


@pytest.mark.parametrize("program", ["onnxruntime-fp32", "opencv-fp32", "darknet"])
def test_all_programs_find_the_same(work, request, program):
    if program == "darknet":
        request.getfixturevalue("libdarknet")
        other = DarknetPipeline(work)
    else:
        other = OpenCVPipeline(work) if program == "opencv-fp32" else OurPipeline(work, program)
    ours, count = OurPipeline(work, "torch-fp32"), 0
    for image in scenes(20, seed=20_000)[0]:
        found = find(ours, [image])[0]
        assert_same(find(other, [image])[0], found)
        count += len(found)
    assert count >= 20  # there is something to compare


def test_the_files(trained):
    folder, model, _ = trained
    assert (folder / "things.names").read_text() == "red thing\ngreen thing\nblue thing\n"
    text = (folder / "things.cfg").read_text()
    assert "batch=1\nsubdivisions=1\nwidth=64" in text
    assert text.replace("batch=1\nsubdivisions=1", "batch=8\nsubdivisions=2") == cfg_text()
    assert sorted(path.name for path in folder.iterdir()) == [
        "things.cfg",
        "things.names",
        "things.weights",
    ]


def with_small_variances(model):
    """A copy in which every second channel has nearly died."""
    copy = portable(model)
    for stage in copy.stages:
        if getattr(stage, "norm", None) is not None:
            stage.norm.running_var[::2] = 1e-6
            stage.norm.weight.data[::2] *= 1e-3
    return copy


def test_portable_computes_the_same(trained, relative_difference):
    model = with_small_variances(trained[1])
    image = torch.from_numpy(scenes(2, seed=5)[0]).permute(0, 3, 1, 2) / 255
    before = [one.clone() for one in model.state_dict().values()]
    with torch.inference_mode():
        for one, two in zip(model(image), portable(model)(image), strict=True):
            assert relative_difference(two, one) <= 1e-5
    after = model.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    variances = [
        s.norm.running_var.min() for s in portable(model).stages if hasattr(s, "norm") and s.norm
    ]
    assert min(variances) >= 1


def test_small_variances_are_why_portable_is_needed(trained, tmp_path, relative_difference):
    """OpenCV and Darknet differ where a variance is near their epsilon; not after `portable`."""
    model = with_small_variances(trained[1])
    image = torch.from_numpy(scenes(1, seed=5)[0]).permute(0, 3, 1, 2) / 255
    differences = []
    for network in (model, portable(model)):
        network.save_weights(tmp_path / "net.weights")
        theirs = cv2.dnn.readNetFromDarknet(str(model.cfg_path), str(tmp_path / "net.weights"))
        theirs.setInput(image.numpy())
        maps = theirs.forward(["conv_5", "conv_10"])
        with torch.inference_mode():
            pairs = zip(model(image), maps, strict=True)
            differences.append(max(relative_difference(one, two) for one, two in pairs))
    assert differences[0] > 0.01 > 1e-5 >= differences[1]


def test_batch_is_set_to_one():
    text = "[net]\nbatch = 64\nsubdivisions=16\nwidth=32\n# batch=9\n"
    assert for_one_photo(text) == "[net]\nbatch=1\nsubdivisions=1\nwidth=32\n# batch=9\n"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["one", "two"], "names must be 3, one for each class, got 2"),
        (["one", "two", " three"], "a class name must be one line .* got ' three'"),
        (["one", "", "three"], "a class name must be one line .* got ''"),
        (["one", "t\nwo", "three"], "a class name must be one line .* got 't.nwo'"),
    ],
)
def test_names_that_are_not_allowed(trained, tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        save_darknet(trained[1], names, tmp_path / "new")
    assert not Path(tmp_path / "new").exists()
