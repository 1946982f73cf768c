import ctypes.util
import json
import math
import subprocess
import sys
from pathlib import Path

import cv2
import darknet_library
import numpy as np
import pytest
import torch
from darknet_pipeline import DarknetPipeline
from PIL import Image

import benchmark
from darknet.download import DownloadError
from darknet.network import Darknet
from detector import Detector
from speed import engines
from speed import equal_work as benchmark_checks
from speed import pipelines as benchmark_pipelines
from speed.pipelines import OpenCVPipeline, OurPipeline, Work, find

LESSON = Path(benchmark.__file__).parent
SIZE = 64
RECORD_KEYS = [
    "model",
    "size",
    "engine",
    "precision",
    "batch",
    "load_s",
    "preprocess_ms",
    "forward_ms",
    "postprocess_ms",
    "total_ms",
    "peak_mb",
]
needs_darknet = pytest.mark.skipif(
    darknet_library.library_path() is None, reason="Debian's package darknet is not installed"
)


@pytest.fixture
def work(small_detector, tmp_path):
    photo = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((200, 120)).save(photo)
    return Work(*map(str, (*small_detector.values(), photo)), size=SIZE, threads=1)


@pytest.fixture
def photo(work):
    return benchmark.read_photo(work.photo)


def count_boxes(found):
    return [len(one) for one in found]


def test_our_pipeline_is_the_detector(work, photo):
    found = find(OurPipeline(work, "torch-fp32"), [photo])
    detector = Detector(cfg=work.cfg, weights=work.weights, names=work.names, size=SIZE)
    assert [(d.class_index, d.score, d.box_xyxy) for d in detector(photo)] == found[0]
    assert len(found[0]) >= 2


def test_opencv_pipeline_finds_the_same_in_a_square_photo(work):
    photo = benchmark_checks.square_photo(work)
    ours = find(OurPipeline(work, "torch-fp32"), [photo, photo])
    theirs = find(OpenCVPipeline(work), [photo, photo])
    assert count_boxes(ours) == count_boxes(theirs) and len(ours[0]) >= 2
    for mine, other in zip(ours[1], theirs[1], strict=True):
        assert mine[0] == other[0]
        assert mine[1] == pytest.approx(other[1], abs=1e-4)
        assert mine[2] == pytest.approx(other[2], abs=0.01)


def test_opencv_pipeline_squashes_and_scales_to_the_photo(work, photo):
    squashed = cv2.resize(photo, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    height, width = photo.shape[:2]
    scale = np.array([width, height] * 2) / SIZE
    pipeline = OpenCVPipeline(work)
    expected = find(pipeline, [squashed])[0]
    found = find(pipeline, [photo])[0]
    assert len(found) == len(expected) > 0
    for one, small in zip(found, expected, strict=True):
        assert one[2] == pytest.approx(np.array(small[2]) * scale, abs=0.5)


@needs_darknet
def test_darknet_pipeline_finds_the_same(work, photo):
    ours = find(OurPipeline(work, "torch-fp32"), [photo])[0]
    theirs = find(DarknetPipeline(work), [photo])[0]
    assert not benchmark_checks.detections_differ(ours, theirs, 0.005, 0.25)
    assert len(theirs) >= 2


@needs_darknet
def test_darknet_library_prints_nothing(work, capfd):
    DarknetPipeline(work)
    assert capfd.readouterr() == ("", "")


def test_darknet_cfg_copy_keeps_all_but_four_settings(small_detector):
    text = darknet_library.for_detection(small_detector["cfg"].read_text(), 320)
    head = text.split("[convolutional]")[0].split()
    assert head == "[net] batch=1 subdivisions=1 width=320 height=320 channels=3".split()
    assert text.count("[convolutional]") == 3 and "anchors=10,14, 30,20" in text


def test_missing_darknet_is_an_error(monkeypatch):
    monkeypatch.setattr(darknet_library, "library_path", lambda: None)
    with pytest.raises(OSError, match="Darknet's library is not installed"):
        darknet_library.load_library()


def test_another_library_is_an_error(monkeypatch):
    other = ctypes.util.find_library("c")
    if other is None:
        pytest.skip("no C library under its usual name")
    monkeypatch.setattr(darknet_library, "library_path", lambda: other)
    with pytest.raises(OSError, match="has no function load_network"):
        darknet_library.load_library()


def test_equal_work_passes(work):
    names = ["torch-fp32", "onnxruntime-fp32", "opencv-fp32"]
    pipelines = {name: benchmark_pipelines.build(name, work) for name in names}
    if darknet_library.library_path() is not None:
        pipelines["darknet"] = DarknetPipeline(work)
    assert benchmark_checks.check_equal_work(pipelines, work) == []


def test_other_weights_are_not_equal_work(work, tmp_path):
    other = tmp_path / "other.weights"
    benchmark_checks.write_random_weights(work.cfg, other)
    wrong = Work(work.cfg, str(other), work.names, work.photo, SIZE)
    pipelines = {
        "torch-fp32": OurPipeline(work, "torch-fp32"),
        "onnxruntime-fp32": OurPipeline(wrong, "onnxruntime-fp32"),
    }
    lines = benchmark_checks.check_equal_work(pipelines, work)
    assert len(lines) == 2
    assert "onnxruntime-fp32 and torch-fp32 find different boxes" in lines[0]
    assert "onnxruntime-fp32: raw outputs differ by" in lines[1]


@pytest.mark.parametrize(
    ("other", "differ"),
    [
        ((0, 0.905, (0, 0, 10, 10)), False),
        ((0, 0.92, (0, 0, 10, 10)), True),
        ((1, 0.9, (0, 0, 10, 10)), True),
        ((0, 0.9, (0, 0, 10, 9.1)), False),
        ((0, 0.9, (0, 0, 10, 8.9)), True),
    ],
)
def test_detections_differ(other, differ):
    found = [(0, 0.9, (0.0, 0.0, 10.0, 10.0))]
    assert benchmark_checks.detections_differ(found, [other], 0.01, 0.25) is differ
    assert benchmark_checks.detections_differ([other], found, 0.01, 0.25) is differ


def test_a_missing_detection_counts_only_clearly_above_the_threshold():
    def differ(score):
        return benchmark_checks.detections_differ([(0, score, (0, 0, 9, 9))], [], 0.01, 0.25)

    assert differ(0.27) and not differ(0.255)
    assert not benchmark_checks.detections_differ([], [], 0.01, 0.25)


def test_relative_difference_of_other_shapes_is_infinite():
    values = np.zeros((1, 2, 3, 3), np.float32)
    assert math.isinf(benchmark_checks.relative_difference(values, values[:, :1]))


@torch.inference_mode()
def test_random_weights_detect_nothing_and_stay_in_range(tmp_path):
    cfg, path = LESSON / "darknet/networks/yolov3.cfg", tmp_path / "random.weights"
    tiny_cfg = LESSON / "darknet/networks/yolov3-tiny.cfg"
    for one in (tiny_cfg, cfg):
        benchmark_checks.write_random_weights(one, path)
        network = Darknet(one)
        assert network.load_weights(path).stopped_before is None
        network.eval()
        for raw in network(torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))):
            assert raw.mean().item() == pytest.approx(-5, abs=0.1)
            assert 1e-4 < raw.std().item() < 0.5


def test_random_weights_are_seeded(work, tmp_path):
    files = [tmp_path / name for name in "ab"]
    for file in files:
        benchmark_checks.write_random_weights(work.cfg, file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_loading_seconds_measures_both(work):
    loading, reading = benchmark_checks.loading_seconds(work.cfg, work.weights, repeats=1)
    assert loading > 0 and reading > 0


def test_opencv_alone_loads_no_pytorch(work):
    code = "import speed.pipelines, sys; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=LESSON, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_probe_measures_memory_of_its_own_process(work):
    ballast = np.ones(60_000_000)  # 480 MB, which must not show in the other process
    alone = benchmark.probe("torch-fp32", work, 1, 1)
    assert alone.keys() == {"load_s", "peak_mb"} and 0 < alone["load_s"] < 60
    if alone["peak_mb"] is not None and sys.platform == "linux":
        here = benchmark_pipelines.peak_megabytes()
        assert 50 < alone["peak_mb"] < here and here > ballast.nbytes / 1e6


def test_probe_tells_what_went_wrong(work):
    wrong = Work(work.cfg, work.weights + ".missing", work.names, work.photo, SIZE)
    with pytest.raises(ChildProcessError, match="(?s)torch-fp32, alone .* failed.*missing"):
        benchmark.probe("torch-fp32", wrong, 1, 1)


class Recorder:
    """A pipeline that takes known times, on a clock of its own."""

    def __init__(self, log, name, clock, cost):
        self.log, self.name, self.clock, self.cost = log, name, clock, cost

    def preprocess(self, photos):
        self.log.append((self.name, len(photos)))
        self.clock[0] += self.cost[0] * len(photos)
        return photos

    def forward(self, prepared):
        self.clock[0] += self.cost[1] * len(prepared)
        return prepared

    def postprocess(self, raw):
        self.clock[0] += self.cost[2] * len(raw)
        return [[] for _ in raw]


def test_take_turns_interleaves_and_gives_milliseconds_per_photo(monkeypatch):
    clock, log = [0.0], []
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(benchmark.time, "sleep", lambda seconds: log.append(("sleep", seconds)))
    pipelines = {
        "a": Recorder(log, "a", clock, (0.001, 0.02, 0.003)),
        "b": Recorder(log, "b", clock, (1, 2, 3)),
    }
    times = benchmark.take_turns(pipelines, [None] * 4, rounds=2)
    assert times["a"] == pytest.approx([1, 20, 3, 24])
    assert times["b"] == pytest.approx([1000, 2000, 3000, 6000])
    turns = [
        [(name, 4)] * 2 + [("sleep", benchmark.PAUSE_S)] + [(name, 4)] * 3 for name in ("a", "b")
    ]
    assert log == 2 * (turns[0] + turns[1])


def record(variant, total, batch=1, peak=100.0):
    values = ["yolov3-tiny", 416, *variant.split("-"), batch, 0.5, 1.0, 2.0, 0.1, total, peak]
    return dict(zip(RECORD_KEYS, values, strict=True))


def test_table_shows_ratios_to_opencv_of_the_same_batch():
    records = [
        record("torch-fp32", 30.0),
        record("opencv-fp32", 40.0),
        record("torch-fp32", 10.0, 4),
    ]
    table = benchmark.format_table([*records, record("opencv-fp32", 40.0, 4, None)])
    ratios = [line.split()[-2:] for line in table.splitlines()[3:]]
    assert ratios == [["0.75x", "100"], ["1.00x", "100"], ["0.25x", "100"], ["1.00x", "-"]]


def test_table_without_opencv_has_no_ratio():
    assert benchmark.format_table([record("torch-fp32", 30.0)]).split()[-2:] == ["-", "100"]


def run_main(tmp_path, *more):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    options = ["--photo", str(tmp_path / "photo.png"), "--size", "64", "--rounds", "1"]
    return benchmark.main([*options, "--threads", "1", *more])


@pytest.fixture(autouse=True)
def keep_threads():
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def test_command(tmp_path, capsys):
    target = tmp_path / "table.json"
    variants = ["--variants", "opencv-fp32", "torch-fp32", "--json", str(target)]
    assert run_main(tmp_path, "--weights", "random", "--batch", "1", "2", *variants) == 0
    records = json.loads(target.read_text())
    assert [list(r) for r in records] == [RECORD_KEYS] * 4
    assert [(r["engine"], r["precision"], r["batch"]) for r in records] == [
        ("torch", "fp32", 1),
        ("opencv", "fp32", 1),
        ("torch", "fp32", 2),
        ("opencv", "fp32", 2),
    ]
    for r in records:
        assert (r["model"], r["size"]) == ("yolov3-tiny", 64)
        assert all(r[key] > 0 for key in RECORD_KEYS[5:10])
    out = capsys.readouterr().out
    assert "random values in Darknet's format" in out
    assert "postprocessing, torch-fp32, batch 2" in out and "1.00x" in out
    assert "loading yolov3-tiny-random.weights into the network" in out


def test_weights_that_cannot_be_had_are_replaced(monkeypatch, capsys):
    def fail(name):
        raise DownloadError(f"{name}: no mirror\nlist of mirrors")

    monkeypatch.setattr(benchmark, "fetch", fail)
    with benchmark.weights_file("yolov3-tiny", "auto") as path:
        kept = path
        assert path.stat().st_size == 35_434_956
    assert not kept.exists()
    out = capsys.readouterr().out
    assert "cannot be had (yolov3-tiny.weights: no mirror)" in out and "random values" in out


def test_weights_of_ones_own(tmp_path):
    with benchmark.weights_file("yolov3", str(tmp_path / "my.weights")) as path:
        assert path == tmp_path / "my.weights"


def test_default_photo_without_a_download(monkeypatch):
    def fail(name):
        raise DownloadError(name)

    monkeypatch.setattr(benchmark, "fetch", fail)
    assert benchmark.default_photo().name == "motorcycle_left.png"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "1", "0"], "--batch must be 1 or more, got 0"),
        (["--rounds", "0"], "--rounds must be 1 or more, got 0"),
        (["--threads", "-1"], "--threads must be 1 or more, got -1"),
        (["--variants", "fastest"], "invalid choice: 'fastest'"),
    ],
)
def test_wrong_usage(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        benchmark.main(options)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_wrong_size(tmp_path, capsys):
    options = ["--weights", "random", "--variants", "torch-fp32", "--size", "100"]
    assert run_main(tmp_path, *options) == 2
    assert "size must be a multiple of 32" in capsys.readouterr().err


def test_missing_photo_and_weights(tmp_path, capsys):
    missing = str(tmp_path / "none")
    assert run_main(tmp_path, "--weights", "random", "--photo", missing) == 2
    assert f"{missing}: there is no such file" in capsys.readouterr().err
    assert run_main(tmp_path, "--weights", missing, "--variants", "torch-fp32") == 2
    assert f"{missing}: cannot be read" in capsys.readouterr().err


def test_what_a_machine_lacks_is_left_out_with_a_reason(monkeypatch, capsys):
    monkeypatch.setattr(engines, "has_bfloat16_instructions", lambda: False)
    monkeypatch.setattr(engines, "has_int8_instructions", lambda: False)
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "openvino" else name)
    monkeypatch.delattr(benchmark.cv2.dnn, "readNetFromDarknet", raising=False)
    assert benchmark.choose_variants() == ["torch-fp32", "onnxruntime-fp32"]
    out = capsys.readouterr().out
    for text in (
        "torch-bf16 is left out: precision bf16: this processor has no instructions for it",
        "onnxruntime-int8 is left out: precision int8: this processor has no instructions for it",
        "openvino-fp32 is left out: engine openvino needs the package openvino, which is not",
        "opencv-fp32 is left out: OpenCV",
    ):
        assert text in out


def test_variants_keep_their_order(monkeypatch):
    monkeypatch.setattr(benchmark, "reason_to_leave_out", lambda name: None)
    assert benchmark.choose_variants() == list(benchmark.VARIANTS)
    some = ["opencv-fp32", "torch-bf16"]
    assert benchmark.choose_variants(some) == some[::-1]


def test_no_variant_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "reason_to_leave_out", lambda name: "not here")
    assert run_main(tmp_path, "--weights", "random", "--variants", "opencv-fp32") == 2
    captured = capsys.readouterr()
    assert "opencv-fp32 is left out: not here" in captured.out
    assert "none of the variants can run" in captured.err


def test_different_results_give_exit_code_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "check_equal_work", lambda *_: ["opencv finds another box"])
    monkeypatch.setattr(benchmark, "probe", lambda *_: {"load_s": 1.0, "peak_mb": None})
    options = ["--weights", "random", "--variants", "torch-fp32", "--json"]
    assert run_main(tmp_path, *options, str(tmp_path / "t.json")) == 1
    assert "error: opencv finds another box" in capsys.readouterr().err
    assert json.loads((tmp_path / "t.json").read_text())[0]["peak_mb"] is None


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "torch-fp32" in out and "examples:" in out and "exit code:" in out


def test_ctrl_c_ends_without_a_traceback(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(benchmark, "measure", interrupted)
    assert run_main(tmp_path, "--weights", "random", "--variants", "torch-fp32") == 2
    assert "stopped; nothing was written" in capsys.readouterr().err
