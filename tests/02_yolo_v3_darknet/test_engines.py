"""Each engine against the network as it is written, and what is refused, by name."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

import detect
from common.photos import read_photo
from darknet.download import DownloadError, fetch, sample_photos
from darknet.network import Darknet
from detector import Detector
from speed import engines
from speed.engines import build_network, check_engine, has_bfloat16_instructions

SIZE = 64
PHOTOS = (*sample_photos(), "dog.jpg", "eagle.jpg", "giraffe.jpg", "horses.jpg")
needs_openvino = pytest.mark.skipif(
    find_spec("openvino") is None, reason="the optional package openvino is not installed"
)
needs_bfloat16 = pytest.mark.skipif(
    not has_bfloat16_instructions(), reason="this processor has no bfloat16 instructions"
)
needs_int8 = pytest.mark.skipif(
    not engines.has_int8_instructions(), reason="this processor has no int8 instructions"
)
OTHERS = ["onnxruntime", pytest.param("openvino", marks=needs_openvino)]


def images(count=1, height=SIZE, width=SIZE, seed=1):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network(small_detector):
    network = Darknet(small_detector["cfg"]).eval()
    network.load_weights(small_detector["weights"])
    return network


@pytest.fixture
def anything_goes(monkeypatch):
    """A processor with all instructions, whatever this one has."""
    for name in ("has_bfloat16_instructions", "has_int8_instructions"):
        monkeypatch.setattr(engines, name, lambda: True)


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96)])
def test_raw_outputs_of_any_batch(network, relative_difference, engine, height, width):
    computed = build_network(network, engine, (height, width))
    for count in (1, 3, 1):
        pictures = images(count, height, width, seed=count)
        with torch.inference_mode():
            expected = network(pictures)
        for ours, theirs in zip(computed(pictures), expected, strict=True):
            assert relative_difference(ours, theirs) <= 1e-5


@pytest.mark.parametrize("engine", OTHERS)
def test_outputs_of_one_call_outlive_the_next(network, engine):
    computed = build_network(network, engine, (SIZE, SIZE))
    first = computed(images())
    kept = [one.clone() for one in first]
    computed(images(seed=2))
    assert all(torch.equal(one, other) for one, other in zip(first, kept, strict=True))


def photo_of(name):
    try:
        return read_photo(sample_photos().get(name) or fetch(name, progress=False))
    except DownloadError as error:
        pytest.skip(f"{name} cannot be had: {error}")


@pytest.fixture(scope="module")
def detectors(tiny_weights):
    """Darknet's own yolov3-tiny, by engine and precision."""
    made = {}

    def get(engine, precision="fp32"):
        if (engine, precision) not in made:
            made[engine, precision] = Detector(device="cpu", engine=engine, precision=precision)
        return made[engine, precision]

    return get


@pytest.mark.parametrize("engine", OTHERS)
@pytest.mark.parametrize("name", PHOTOS)
def test_engines_find_the_same_objects(detectors, engine, name):
    photo = photo_of(name)
    expected, found = detectors("torch")(photo), detectors(engine)(photo)
    assert [one.class_name for one in found] == [one.class_name for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=0.01)
        assert one.box_xyxy == pytest.approx(other.box_xyxy, abs=1)


INEXACT = [
    pytest.param("torch", "bf16", marks=needs_bfloat16),
    pytest.param("openvino", "bf16", marks=(needs_openvino, needs_bfloat16)),
    pytest.param("onnxruntime", "int8", marks=needs_int8),
    pytest.param("openvino", "int8", marks=(needs_openvino, needs_int8)),
]


@pytest.mark.parametrize(("engine", "precision"), INEXACT)
def test_coarse_numbers_find_what_is_clear(detectors, engine, precision):
    """What float32 is sure of is found, with a score near to it and a box that is not far."""
    for name in PHOTOS:
        photo = photo_of(name)
        found = detectors(engine, precision)(photo)
        for clear in detectors("torch")(photo):
            if clear.score < 0.6:
                continue
            same = [one for one in found if one.class_name == clear.class_name]
            distance = [np.abs(np.subtract(one.box_xyxy, clear.box_xyxy)).max() for one in same]
            assert same, (name, clear)
            near = same[int(np.argmin(distance))]
            assert min(distance) < 0.1 * max(photo.shape), (name, clear)
            assert near.score == pytest.approx(clear.score, abs=0.15), (name, clear)


def test_int8_keeps_maps_within_a_few_steps(network, relative_difference):
    """On random weights, too: eight bits are 256 steps, and errors of three layers add up."""
    pytest.importorskip("onnxruntime.quantization")
    from speed.onnx_file import raw_onnx
    from speed.quantize import quantize
    from speed.runtimes import OnnxruntimeNetwork

    pictures = [images(seed=seed) for seed in range(4)]
    content = raw_onnx(network, (SIZE, SIZE))
    small = quantize(content, pictures)
    assert b"QuantizeLinear" in small and b"QuantizeLinear" not in content
    with torch.inference_mode():
        expected = network(pictures[0])
    for ours, theirs in zip(OnnxruntimeNetwork(small)(pictures[0]), expected, strict=True):
        assert 0 < relative_difference(ours, theirs) < 0.1


def test_padding_does_not_spoil_the_scales(write_cfg, randomize, relative_difference):
    """A pooling that reaches over the edge: filled with minus infinity, no scale would be left."""
    text = "[net]\nheight=16\nwidth=16\n[conv]\nfilters=6\nsize=3\npad=1\nactivation=leaky\n"
    text += "[maxpool]\nsize=2\nstride=1\n[conv]\nfilters=6\nsize=3\npad=1\nactivation=leaky\n"
    text += "[conv]\nfilters=7\nsize=1\nactivation=linear\n"
    text += "[yolo]\nmask=0\nanchors=4,4\nnum=1\nclasses=2\n"
    network = randomize(Darknet(write_cfg(text)))
    from speed.onnx_file import raw_onnx
    from speed.quantize import quantize
    from speed.runtimes import OnnxruntimeNetwork

    picture = images(1, 16, 16)
    (found,) = OnnxruntimeNetwork(quantize(raw_onnx(network, (16, 16)), [picture]))(picture)
    with torch.inference_mode():
        assert relative_difference(found, network(picture)[0]) < 0.1


def test_int8_without_photos_is_refused(network, anything_goes):
    with pytest.raises(ValueError, match="int8 needs photos to calibrate with"):
        build_network(network, "onnxruntime", (SIZE, SIZE), "int8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tensorrt", "fp32"), "engine is 'tensorrt'; allowed are torch, onnxruntime, openvino"),
        (("torch", "int8"), "engine torch has no precision 'int8'; it has auto, fp32, fp16, bf16"),
        (
            ("onnxruntime", "bf16"),
            "engine onnxruntime has no precision 'bf16'; it has auto, fp32, ",
        ),
        (("openvino", "fp16"), "engine openvino has no precision 'fp16'"),
        (("torch", "fp16"), "precision fp16 needs a CUDA GPU"),
        (("onnxruntime", "fp32", "cuda"), "engine onnxruntime runs on the CPU alone, without devi"),
        (("onnxruntime", "fp32", "cpu", True), "runs on the CPU alone, without torch.compile"),
    ],
)
def test_what_an_engine_lacks_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_engine(*arguments)


def test_what_a_processor_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    monkeypatch.setattr(engines, "has_bfloat16_instructions", lambda: False)
    monkeypatch.setattr(engines, "has_int8_instructions", lambda: False)
    for engine, precision in (("torch", "bf16"), ("openvino", "bf16"), ("onnxruntime", "int8")):
        message = f"precision {precision}: this processor has no instructions for it"
        with pytest.raises(ValueError, match=message):
            check_engine(engine, precision)
    check_engine("torch", "bf16", "cuda")


@pytest.mark.parametrize("lacking", ["onnxruntime", "openvino", "onnx"])
def test_a_package_that_lacks_is_named(monkeypatch, anything_goes, lacking):
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == lacking else name)
    engine = "openvino" if lacking == "openvino" else "onnxruntime"
    message = f"needs the package {lacking}, which is not installed: pip install {lacking}"
    with pytest.raises(ValueError, match=message):
        check_engine(engine, "fp32")
    check_engine("torch", "fp32")


def test_int8_needs_the_quantiser(monkeypatch, anything_goes):
    there = {"onnx", "openvino"}
    monkeypatch.setattr(engines, "find_spec", lambda name: name if name in there else None)
    check_engine("openvino", "fp32")
    with pytest.raises(ValueError, match="needs the package onnxruntime"):
        check_engine("openvino", "int8")


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).resize((90, 60)).save(path)
    return path


@pytest.fixture
def run(small_detector, photo, tmp_path):
    """Run the command with more options: exit code and detections."""
    files = [text for key, file in small_detector.items() for text in (f"--{key}", str(file))]

    def call(*options):
        target = tmp_path / "found.json"
        target.unlink(missing_ok=True)
        code = detect.main([str(photo), *files, "--json", str(target), *options])
        found = json.loads(target.read_text())[0]["detections"] if target.exists() else None
        return code, found

    return call


@pytest.mark.parametrize("engine", OTHERS)
def test_the_command_finds_the_same(run, engine):
    code, expected = run("--device", "cpu")
    assert code == 0 and len(expected) >= 3
    assert run("--engine", engine) == (
        0,
        [
            {
                **one,
                "score": pytest.approx(one["score"], abs=0.001),
                "box_xyxy": pytest.approx(one["box_xyxy"], abs=0.1),
            }
            for one in expected
        ],
    )


@needs_int8
def test_the_command_calibrates_with_ones_own_photos(run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    assert run("--engine", "onnxruntime", "--precision", "int8", "--calibration",
               str(tmp_path / "mine"))[0] == 2  # fmt: skip
    assert "mine: this folder holds no file that ends in" in capsys.readouterr().err
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"mine/{seed}.png")
    code, found = run("--engine", "onnxruntime", "--precision", "int8", "--calibration",
                      str(tmp_path / "mine"))  # fmt: skip
    assert code == 0 and found


def test_the_command_says_what_lacks(run, monkeypatch, capsys):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert run("--engine", "openvino") == (2, None)
    line = "error: engine openvino needs the package onnx, which is not installed: pip install onnx"
    assert capsys.readouterr().err.strip() == line
    assert run("--precision", "int8") == (2, None)
    assert "error: engine torch has no precision 'int8'" in capsys.readouterr().err
