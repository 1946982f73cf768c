"""Whole training runs of a small network: results, exact resume after a kill, two processes."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import engine
import evaluate
import train
from common.checkpoint import CheckpointError, load_checkpoint
from common.coco_metrics import STATISTICS, coco_metrics, format_metrics, precision_curves, run_coco
from common.coco_truth import coco_truth
from common.confusion import confusion_matrix
from common.loading import training_loader
from common.photos import read_photo
from common.processes import Processes
from common.run import Run
from common.training import make_optimizer, warmup_cosine
from darknet.network import Darknet
from dataset import PhotoSet, TrainingPhotos, load_data
from detector import Detector
from engine import LAST_RATE, build_model, choose_cfg, save_model
from evaluation import Found, collect, find_all, match_class_names, to_coco
from losses import YoloLoss
from settings import Settings

MINI = """[net]
width=64
height=64
channels=3
[convolutional]
batch_normalize=1
filters=16
size=3
stride=2
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=32
size=3
stride=2
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=64
size=3
stride=2
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=64
size=3
stride=1
pad=1
activation=leaky
[convolutional]
size=1
stride=1
pad=1
filters=21
activation=linear
[yolo]
mask=0,1,2
anchors=8,8, 16,16, 32,32
classes=2
num=3
"""


def write_squares(folder: Path, count: int = 16) -> Path:
    """Photos of red and blue squares on a dark ground, in COCO's form."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    images, annotations = [], []
    for k in range(count):
        photo = random.integers(0, 60, (64, 64, 3)).astype(np.uint8)
        for category, color in ((5, (40, 40, 230)), (9, (230, 60, 40))):
            w, h = (int(v) for v in random.integers(10, 28, 2))
            x = int(random.integers(0, 32 - w // 2)) + (32 - w // 2) * (category == 9)
            x, y = min(x, 64 - w), int(random.integers(0, 64 - h))
            photo[y : y + h, x : x + w] = color
            one = {"id": len(annotations) + 1, "image_id": k, "category_id": category}
            annotations.append({**one, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0})
        cv2.imwrite(str(folder / f"{k:02}.png"), photo)
        images.append({"id": k, "file_name": f"{k:02}.png", "width": 64, "height": 64})
    categories = [{"id": 5, "name": "red"}, {"id": 9, "name": "blue"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("squares") / "data")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "mini.cfg"
    path.write_text(MINI)
    return path


def settings_of(squares: Path, base: Path, **changes: object) -> Settings:
    values = {"data": str(squares), "base": str(base), "pretrained": "none", "size": 64}
    values |= {"epochs": 3, "batch_size": 4, "mosaic": 0.3, "evaluate_every": 9, "workers": 0}
    return Settings(**{**values, **changes})


def run_of(settings: Settings, folder: Path, **options: object) -> Run:
    return engine.train(settings, load_data(settings), folder, progress=False, **options)


@pytest.fixture(scope="module")
def trained(squares: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has learned the squares, by the command itself."""
    out = tmp_path_factory.mktemp("trained") / "out"
    options = ["--data", squares, "--base", base, "--pretrained", "none", "--size", "64"]
    options += ["--epochs", "90", "--batch-size", "5", "--learning-rate", "0.01", "--scale", "0.2"]
    options += ["--workers", "0"]
    assert train.main([*map(str, options), "--out", str(out), "--evaluate-every", "20"]) == 0
    return out


def test_the_command_leaves_a_detector_that_works(trained: Path, squares: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    assert set(metrics) == {"bbox", "per_class", "seconds"}
    assert set(metrics["bbox"]) == set(STATISTICS)
    assert metrics["bbox"]["AP50"] >= 0.9, metrics["bbox"]
    assert set(metrics["per_class"]) == {"red", "blue"} and metrics["seconds"] > 0
    for name in ("curves.png", "precision_recall.png", "confusion.png"):
        assert (trained / name).read_bytes().startswith(b"\x89PNG") and read_photo(
            trained / name
        ).any()
    assert (trained / "model.names").read_text() == "red\nblue\n"
    files = {part: trained / f"model.{part}" for part in ("cfg", "weights", "names")}
    detector = Detector(**files, score_threshold=0.3)
    assert detector.input_size == (64, 64)  # as it was trained
    photos = load_data(Settings(data=str(squares))).test
    for index in range(len(photos)):
        found = detector(np.array(photos.photo(index)))
        assert {one.class_name for one in found} == {"red", "blue"}
    assert Darknet(files["cfg"]).blocks[0].width == 64


def test_opencv_reads_the_same_network(trained: Path) -> None:
    model = Darknet(trained / "model.cfg")
    model.load_weights(trained / "model.weights")
    net = cv2.dnn.readNetFromDarknet(str(trained / "model.cfg"), str(trained / "model.weights"))
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    net.setInput(x.numpy())
    theirs = torch.from_numpy(net.forward("conv_4"))
    with torch.inference_mode():
        ours = model.eval()(x)[0]
    assert (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max()


def test_evaluate_agrees_with_the_run(trained: Path, squares: Path, tmp_path: Path) -> None:
    out = tmp_path / "metrics.json"
    options = ["--data", squares, "--held-out", "--own", trained, "--size", "64", "--device", "cpu"]
    assert evaluate.main([*map(str, options), "--json", str(out)]) == 0
    ours = json.loads((trained / "metrics.json").read_text())
    again = json.loads(out.read_text())
    assert again["bbox"] == pytest.approx(ours["bbox"], abs=1e-6)
    assert again["per_class"] == ours["per_class"] and again["photos"] == 4


def test_metrics_are_those_of_pycocotools(trained: Path, squares: Path, tmp_path: Path) -> None:
    metrics, detections = tmp_path / "m.json", tmp_path / "d.json"
    files = {"--cfg": "model.cfg", "--weights": "model.weights", "--names": "model.names"}
    options = ["--data", str(squares), "--size", "64", "--score-threshold", "0.05"]
    options += [word for key, name in files.items() for word in (key, str(trained / name))]
    options += ["--json", str(metrics), "--detections", str(detections), "--device", "cpu"]
    assert evaluate.main(options) == 0
    truth = COCO(str(squares / "annotations.json"))
    measured = COCOeval(truth, truth.loadRes(str(detections)), "bbox")
    measured.evaluate()
    measured.accumulate()
    measured.summarize()
    ours = json.loads(metrics.read_text())
    for name, value in zip(STATISTICS, measured.stats, strict=True):
        assert ours["bbox"][name] == (None if value < 0 else pytest.approx(value, abs=1e-9)), name
    for name, category in (("red", 5), ("blue", 9)):
        measured.params.catIds = [category]
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
        assert ours["per_class"][name]["bbox"]["AP"] == pytest.approx(measured.stats[0], abs=1e-9)
        assert ours["per_class"][name]["bbox"]["AP50"] == pytest.approx(measured.stats[1], abs=1e-9)


def test_curves_are_drawn_on_validation_photos_and_the_test_is_last(
    squares: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[PhotoSet] = []

    def noted(model: Darknet, photos: PhotoSet, *rest: object, **more: object) -> tuple:
        measured.append(photos)
        return collect(model, photos, *rest, **more)

    monkeypatch.setattr(engine, "collect", noted)
    monkeypatch.setattr(train, "collect", noted)
    settings = settings_of(squares, base, evaluate_every=2)
    data = load_data(settings)
    parts = [data.train, data.validation, data.test]
    files = [{part.path(k) for k in range(len(part))} for part in parts]
    assert [len(some) for some in files] == [11, 1, 4] and len(set.union(*files)) == 16
    run = engine.train(settings, data, tmp_path, progress=False)
    assert measured == [data.validation, data.validation]
    assert [one["epoch"] for one in run.epochs] == [1, 2] and "AP50" in run.epochs[0]["bbox"]
    train.write_results(run, data)
    assert measured[2:] == [data.test]


def test_the_result_is_the_last_step(squares: Path, base: Path, tmp_path: Path) -> None:
    run = run_of(settings_of(squares, base), tmp_path)
    stored = load_checkpoint(tmp_path / "last.pt")
    assert len(run.history) == 6
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, stored["model"][name]), name
    save_model(run, ["red", "blue"])
    saved = Darknet(tmp_path / "model.cfg")
    saved.load_weights(tmp_path / "model.weights")
    assert saved.header.seen == 6 * 4
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        (ours,), (theirs,) = run.model.eval()(images), saved.eval()(images)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_stopped_and_resumed_is_the_same_run(
    squares: Path, base: Path, tmp_path: Path, stop_at
) -> None:
    settings = settings_of(squares, base, multi_scale=True)
    whole = run_of(settings, tmp_path / "whole")
    wanted = save_model(whole, ["red", "blue"]).read_bytes()
    for step in (1, 3):
        folder = tmp_path / f"part{step}"
        with pytest.raises(KeyboardInterrupt):
            run_of(settings, folder, checkpoint_every=1, after_step=stop_at(step))
        torch.manual_seed(99)
        others = settings_of(squares, base, multi_scale=True, workers=1)
        rest = run_of(others, folder, resume=True)
        assert rest.history == whole.history and rest.epochs == whole.epochs
        assert save_model(rest, ["red", "blue"]).read_bytes() == wanted


def test_workers_of_another_start_method_give_the_same(squares: Path, base: Path) -> None:
    """Windows and macOS start a new Python, which gets the photos pickled."""
    settings = settings_of(squares, base)
    photos = TrainingPhotos(load_data(settings).train, 64, settings.augmentation)
    alone = training_loader(photos, 4, seed=0, num_workers=0)
    spawned = training_loader(photos, 4, seed=0, num_workers=1)
    spawned.multiprocessing_context = "spawn"
    for ours, theirs in zip(alone, spawned, strict=True):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
        assert ours[2] == theirs[2]


def test_resume_wants_the_same_settings_and_data(squares: Path, base: Path, tmp_path: Path) -> None:
    run_of(settings_of(squares, base, epochs=1), tmp_path, resume=True)  # there is nothing yet
    with pytest.raises(CheckpointError, match="last.pt was made with epochs = 1, not 2: resume"):
        run_of(settings_of(squares, base, epochs=2), tmp_path, resume=True)
    again = settings_of(squares, base, epochs=1, evaluate_every=1, workers=1)
    assert run_of(again, tmp_path, resume=True).epoch == 1
    fewer = write_squares(tmp_path / "fewer", 15)
    progress = torch.load(tmp_path / "last.pt", weights_only=True)
    progress["settings"]["data"] = str(fewer)
    torch.save(progress, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="was made with photos = 11, not 10"):
        run_of(settings_of(fewer, base, epochs=1), tmp_path, resume=True)


def test_few_calls_from_the_command_to_the_loss(
    squares: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the code from the command on is at the loss after three calls, in two files."""
    stacks = []

    def noted(self: YoloLoss, *arguments: object) -> dict[str, torch.Tensor]:
        lesson = Path(train.__file__).parent
        own = [one for one in inspect.stack()[1:] if Path(one.filename).is_relative_to(lesson)]
        stacks.append([(Path(one.filename).name, one.function) for one in own][::-1])
        return forward(self, *arguments)

    forward = YoloLoss.forward
    monkeypatch.setattr(YoloLoss, "forward", noted)
    options = command_of(squares, base, tmp_path / "out")[2:]
    assert train.main([*options, "--epochs", "1"]) == 0
    start = stacks[0].index(("train.py", "main"))
    calls = stacks[0][start:]
    assert len(calls) <= 3 and len({file for file, _ in calls}) <= 2, calls


def command_of(squares: Path, base: Path, out: Path, *more: str) -> list[str]:
    words = [
        sys.executable,
        "train.py",
        "--data",
        str(squares),
        "--base",
        str(base),
        "--size",
        "64",
    ]
    words += ["--pretrained", "none", "--epochs", "30", "--batch-size", "4", "--out", str(out)]
    return [*words, "--checkpoint-every", "1", "--workers", "0", *more]


@pytest.mark.full
def test_killed_and_resumed_is_the_same_run(
    squares: Path, base: Path, tmp_path: Path, lesson_folder: Path, monkeypatch, kill_and_resume
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(lesson_folder)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    longer = ("--epochs", "100")
    done = subprocess.run(command_of(squares, base, whole, *longer), stdout=subprocess.DEVNULL)
    assert done.returncode == 0
    kill_and_resume(command_of(squares, base, killed, *longer), killed)
    weights = [(folder / "model.weights").read_bytes() for folder in (killed, whole)]
    assert weights[0] == weights[1]
    results = [json.loads((f / "metrics.json").read_text()) for f in (killed, whole)]
    assert results[0]["bbox"] == results[1]["bbox"]


def halves_reference(settings: Settings, folder: Path) -> list[float]:
    """Two processes as one: both halves through the same weights, then the mean gradient."""
    photos = load_data(settings).train
    model, _ = build_model(settings, photos, folder)
    model.train()
    optimizer = make_optimizer(model, "adamw", settings.learning_rate, settings.weight_decay)
    changed, cpu = TrainingPhotos(photos, settings.size, settings.augmentation), torch.device("cpu")
    loaders = [  # rank 0 last: its batch norm statistics are the ones that stay
        training_loader(changed, settings.batch_size, settings.seed, 0, Processes(cpu, rank, 2))
        for rank in (1, 0)
    ]
    schedule = warmup_cosine(optimizer, len(loaders[0]), settings.warmup, LAST_RATE)
    yolo_loss, losses = YoloLoss(model), []
    for halves in zip(*loaders, strict=True):
        optimizer.zero_grad()
        total, statistics = 0.0, None
        for images, targets, _ in halves:
            if statistics is not None:
                model.load_state_dict(statistics, strict=False)
            statistics = {n: b.clone() for n, b in model.named_buffers()}
            outputs = model(engine.to_input(images, cpu, (64, 64)))
            loss = sum(yolo_loss(outputs, targets, (64, 64)).values()) / 2
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_gradient_norm)
        optimizer.step()
        schedule.step()
        losses.append(total)
    return losses


def test_two_processes_have_the_loss_of_one(
    squares: Path, base: Path, tmp_path: Path, lesson_folder: Path
) -> None:
    out = tmp_path / "two"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += command_of(squares, base, out)[1:]
    words[words.index("30")] = "1"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, cwd=lesson_folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    history = load_checkpoint(out / "last.pt")["progress"]["history"]
    settings = settings_of(squares, base, epochs=1, mosaic=0.0)
    reference = halves_reference(settings, tmp_path / "one")
    assert len(history) == 2
    assert [one["loss"] for one in history] == pytest.approx(reference, rel=1e-4)
    assert (out / "model.weights").is_file() and (out / "metrics.json").is_file()


@pytest.mark.parametrize(("term", "layer"), [("objectness", 4), ("box", 2), ("class", 5)])
def test_a_nan_in_training_names_term_and_photos(
    squares: Path, base: Path, tmp_path: Path, term: str, layer: int
) -> None:
    kept = {}

    @torch.no_grad()
    def spoil(run: Run) -> None:
        run.model.stages[4].conv.bias.view(3, 7)[:, layer] = float("nan")
        kept.update({n: p.detach().clone() for n, p in run.model.named_parameters()}, run=run)

    message = rf"{term} = nan in epoch 1, step 2, on the pictures .*\.png.* lower the learning"
    with pytest.raises(ValueError, match=message):
        run_of(settings_of(squares, base), tmp_path, after_step=spoil)
    for name, value in kept.pop("run").model.named_parameters():
        assert torch.equal(value.nan_to_num(9), kept[name].nan_to_num(9)), "nothing was updated"


def test_long_gradients_are_shortened(squares: Path, base: Path, tmp_path: Path) -> None:
    weights = []

    def note(run: Run) -> None:
        weights.append(torch.cat([p.detach().flatten() for p in run.model.parameters()]))

    changes = {"optimizer": "sgd", "learning_rate": 1.0, "weight_decay": 0.0, "warmup": 0.0}
    settings = settings_of(squares, base, max_gradient_norm=0.01, **changes)
    run_of(settings, tmp_path, after_step=note)
    first, _ = build_model(settings, load_data(settings).train, tmp_path / "first")
    weights.insert(0, torch.cat([p.detach().flatten() for p in first.parameters()]))
    assert (weights[1] - weights[0]).norm() == pytest.approx(0.01, rel=1e-3)


def test_anchors_that_are_fitted_already_are_taken(
    squares: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(squares, base)
    photos = load_data(settings).train
    cfg, note = choose_cfg(settings, photos)
    model, notes = build_model(settings, photos, tmp_path)
    assert (model.cfg_path.read_text(), notes[0]) == (cfg, note)
    fitted = np.array(model.outputs[0].anchors, float).reshape(-1, 2)
    monkeypatch.setattr(engine, "kmeans_anchors", None)  # a call would fail
    assert choose_cfg(settings, photos, fitted) == (cfg, note)
    assert choose_cfg(settings, photos, fitted + 2)[0] != cfg


def test_anchors_are_fitted_or_kept(squares: Path, base: Path) -> None:
    photos = load_data(settings_of(squares, base)).train
    cfg, note = choose_cfg(settings_of(squares, base), photos)
    assert "the fitted ones 100%" in note and "anchors=8,8, 16,16" not in cfg
    cfg, note = choose_cfg(settings_of(squares, base, anchors="base"), photos)
    assert "kept, as asked for" in note
    one = PhotoSet(photos.labels.part([0]))
    cfg, note = choose_cfg(settings_of(squares, base), one)
    assert "kept, too few boxes to fit others" in note


def test_notes_say_what_it_starts_from(squares: Path, base: Path, tmp_path: Path, capsys) -> None:
    run_of(settings_of(squares, base, epochs=1), tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("anchors: those of mini.cfg overlap")
    assert printed[1] == "start: random weights, as asked for"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "data 'nowhere': allowed are street, penn_fudan"),
        (["--size", "100"], "size must be a multiple of 32, from 32 to 2048, got 100"),
        (["--base", "yolov9", "--data", "DATA"], "base is 'yolov9'; allowed are yolov3-tiny"),
        (["--batch-size", "99", "--data", "DATA"], "batch_size is 99; allowed are 1 to 11"),
        (["--precision", "fp16", "--data", "DATA"], "precision fp16 needs a CUDA GPU"),
    ],
)
def test_the_command_says_what_is_wrong(
    options: list[str], message: str, squares: Path, tmp_path: Path, capsys
) -> None:
    if torch.cuda.is_available() and "fp16" in options:
        pytest.skip("with a GPU this is allowed")
    words = [str(squares) if word == "DATA" else word for word in options]
    assert train.main([*words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cfg", "x.cfg"], "needs all three files"),
        (["--size", "60"], "size must be a multiple of 8, from 8 to 4096, got 60"),
        (["--iou-threshold", "2"], "--iou-threshold must be from 0 to 1"),
        (["--batch-size", "0"], "--batch-size must be 1 or more, got 0"),
        (["--split", "val"], "val"),
        (["--device", "tpu"], "device 'tpu' cannot be used"),
    ],
)
def test_evaluate_says_what_is_wrong(
    options: list[str], message: str, trained: Path, squares: Path, capsys
) -> None:
    own = [] if "--cfg" in options else ["--own", str(trained)]
    assert evaluate.main(["--data", str(squares), *own, *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("test_size", [None, (96, 128)])
def test_input_of_the_photos_shape(
    test_size: tuple[int, int] | None, squares: Path, base: Path, tmp_path: Path
) -> None:
    out, measured = tmp_path / "out", tmp_path / "metrics.json"
    command = command_of(squares, base, out, "--size", "64x96", "--epochs", "2", "--multi-scale")
    larger = ["--test-size", "{}x{}".format(*test_size)] if test_size else []
    assert train.main([*command[2:], *larger]) == 0
    net = Darknet(out / "model.cfg").blocks[0]
    assert (net.height, net.width) == (test_size or (64, 96))
    options = ["--data", squares, "--held-out", "--own", out, "--device", "cpu"]  # its cfg's size
    assert evaluate.main([*map(str, options), "--json", str(measured)]) == 0
    ours, again = (json.loads(path.read_text()) for path in (out / "metrics.json", measured))
    assert again["bbox"] == pytest.approx(ours["bbox"], abs=1e-6)


def test_a_larger_input_in_the_end_leaves_the_training_as_it_is(squares: Path, base: Path) -> None:
    photos = load_data(settings_of(squares, base)).train
    small, large = (
        choose_cfg(settings_of(squares, base, test_size=size), photos)[0]
        for size in (None, (96, 128))
    )
    assert large == small.replace("width=64", "width=128").replace("height=64", "height=96")
    assert settings_of(squares, base, test_size=(96, 128)).sizes == ((64, 64),)


@pytest.mark.parametrize("text", ["", "wide", "1x2x3", "64x", "-64"])
def test_sizes_that_are_none(text: str, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        train.main(["--out", str(tmp_path), "--size", text])
    assert caught.value.code == 2
    assert (
        f"--size: {text!r} is no size; 320 and 288x384 (height x width) are"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("preset", ["street", "photos"])
def test_the_command_takes_a_preset(
    preset: str, squares: Path, base: Path, tmp_path: Path, capsys
) -> None:
    options = command_of(squares, base, tmp_path / "out")[2:]
    assert train.main([*options, "--epochs", "1", "--preset", preset]) == 0
    assert f"preset {preset} on " in capsys.readouterr().out


def test_help_teaches(capsys) -> None:
    for command in (train, evaluate):
        with pytest.raises(SystemExit) as caught:
            command.main(["--help"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert "examples:" in text and "exit code:" in text
        assert max(map(len, text.splitlines())) <= 110


def one_set(tmp_path: Path) -> PhotoSet:
    return load_data(Settings(data=str(write_squares(tmp_path / "few", 4)))).test


def test_coco_numbers_are_kept(tmp_path: Path) -> None:
    photos = one_set(tmp_path)
    truth = coco_truth(photos.labels)
    assert [one["id"] for one in truth["categories"]] == [5, 9]
    boxes = torch.from_numpy(photos.boxes_xyxy(0))
    found = [Found(boxes, torch.tensor([0.9, 0.8]), torch.from_numpy(photos.classes(0)))]
    entries = to_coco(photos, found)
    assert {one["category_id"] for one in entries} == {5, 9}
    assert {one["image_id"] for one in entries} == {photos.labels.images[0].image_id}
    metrics = coco_metrics(truth, entries)
    curves = precision_curves(run_coco(truth, entries)["bbox"])
    assert metrics["bbox"]["AP"] == pytest.approx(1.0) and curves["red"].shape == (101,)
    assert "red" in format_metrics(metrics) and "1.000" in format_metrics(metrics)
    mapped = to_coco(photos, found, {0: 1})
    assert [one["category_id"] for one in mapped] == [9]
    nothing = coco_metrics(truth, [])
    assert nothing["bbox"]["AP"] == 0.0 and nothing["bbox"]["AP_large"] is None
    assert " - " in format_metrics({"bbox": {}, "per_class": {}})


def test_class_names_match_across_spellings(lesson_folder: Path) -> None:
    darknet = (lesson_folder / "darknet/networks/coco.names").read_text().split("\n")[:80]
    assert match_class_names(darknet, ["tv", "Motorcycle", "dining table", "unicorn"]) == (
        {62: 0, 3: 1, 60: 2},
        ["unicorn"],
    )
    with pytest.raises(ValueError, match="knows none of the classes unicorn; its own are red"):
        match_class_names(["red"], ["unicorn"])


def test_confusion_is_counted(tmp_path: Path) -> None:
    photos = one_set(tmp_path)
    red, blue = torch.from_numpy(photos.boxes_xyxy(0))
    nowhere = torch.tensor([0.0, 0, 1, 1])
    found = Found(
        torch.stack((red, red, nowhere, blue)),
        torch.tensor([0.9, 0.8, 0.7, 0.1]),
        torch.tensor([1, 0, 0, 1]),
    )
    truth, score = coco_truth(photos.labels), train.CONFUSION_SCORE
    # red was taken for blue; the second finds its object taken, the third nothing; blue is missed
    matrix = confusion_matrix(truth, to_coco(photos, [found]), score)
    assert matrix.tolist() == [[0, 1, 0], [0, 0, 1], [2, 0, 0]]
    assert confusion_matrix(truth, [], score)[:, 2].tolist() == [1, 1, 0]


def test_batches_do_not_change_what_is_found(trained: Path, squares: Path) -> None:
    model = Darknet(trained / "model.cfg")
    model.load_weights(trained / "model.weights")
    photos = load_data(Settings(data=str(squares))).test
    runs = [find_all(model.eval(), photos, 64, batch_size=b, progress=False) for b in (1, 3)]
    for one, other in zip(*runs, strict=True):
        assert torch.allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-3)
        assert torch.allclose(one.scores, other.scores, atol=1e-5)
        assert len(one.scores) <= 100 and (one.scores.diff() <= 0).all()
