"""Compare the speed and memory of the engines that `detect.py` has, and of OpenCV's importer.

All variants run in one process with the same weights, photo and number of threads, and take turns:
in each round every variant has two warm-up calls, a pause in which the threads of the one before
fall asleep, one more warm-up call, and then its timed calls. The figures are medians over all
rounds. Before any timing the variants have to find the same boxes.

    load_s          from the files to the end of the first forward pass (which prepares the rest);
                    for onnxruntime and OpenVINO writing the ONNX graph, and for int8 calibrating
    preprocess_ms   decoded photo to network input      } milliseconds per photo: those
    forward_ms      network input to raw outputs        } of a batch divided by its number
    postprocess_ms  raw outputs to boxes                } of photos
    total_ms        decoded photo to boxes, timed as one call
    peak_mb         most resident memory (10^6 bytes) of a process that runs this variant alone with
                    this batch, Python and libraries included; the memory of a GPU is not in it
"""

import argparse
import contextlib
import dataclasses
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from common.command import Command, make_parser, write_json
from common.photos import read_photo
from darknet.cfg import NETWORKS
from darknet.download import DownloadError, fetch, sample_photos
from detector import MODELS
from speed.engines import check_engine
from speed.equal_work import check_equal_work, loading_seconds, write_random_weights
from speed.pipelines import OPENCV, VARIANTS, Pipeline, Work, build, find

PAUSE_S = 0.3  # an idle OpenMP or OpenCV thread spins that long, on a core that others need
STAGES = ("preprocess_ms", "forward_ms", "postprocess_ms", "total_ms")
CALLS = 5  # timed calls of a variant in each round; fewer where a call has several photos


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = make_parser(
        "Compare the speed and memory of the engines of detect.py with OpenCV's importer\n"
        "of Darknet networks (opencv-python 4.x), side by side.",
        f"""variants:
  {", ".join(VARIANTS)}
What a machine lacks is left out, with a line that says why.

examples:
  python benchmark.py                                  yolov3-tiny, one photo at a time
  python benchmark.py --batch 1 4 16 --json tiny.json  also several photos together
  python benchmark.py --model yolov3 --weights random  the large network without its download:
                                                       the values do not change the speed
  python benchmark.py --variants torch-fp32 opencv-fp32    only these two

Close other programs first; only figures of one run can be compared.
exit code: 0 done, 1 the variants do not find the same, 2 nothing could be measured, or
stopped""",
    )
    add = parser.add_argument
    add("--model", choices=MODELS, default=MODELS[0], help="network (default: %(default)s)")
    add("--weights", default="auto", metavar="auto|random|FILE", help="auto: download, else random")
    add("--size", type=int, default=416, help="input side in pixels (%(default)s)")
    add("--photo", metavar="FILE", help="default: dog.jpg, or a photo of scikit-image")
    add("--batch", type=int, nargs="+", default=[1], metavar="B", help="photos together (1)")
    add("--rounds", type=int, default=5, metavar="N", help="turns of each variant (%(default)s)")
    add("--threads", type=int, default=torch.get_num_threads(), metavar="N", help="(%(default)s)")
    add("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, metavar="V", help="see below")
    add("--json", metavar="FILE", help="write the table to this file")
    options = parser.parse_args(arguments)
    for name in ("batch", "rounds", "threads"):
        values = getattr(options, name)
        for value in values if isinstance(values, list) else [values]:
            if value < 1:
                parser.error(f"--{name} must be 1 or more, got {value}")
    return options


def reason_to_leave_out(variant: str) -> str | None:
    """Why a variant cannot run on this machine; None if it can."""
    if variant == OPENCV:
        if hasattr(cv2.dnn, "readNetFromDarknet"):
            return None
        return f"OpenCV {cv2.__version__} has no importer of Darknet networks; 4.x has"
    try:
        check_engine(*variant.split("-"))
    except ValueError as error:
        return str(error)
    return None


def choose_variants(asked: Sequence[str] = VARIANTS) -> list[str]:
    """The variants to run, in the order of `VARIANTS`; prints what is left out and why."""
    chosen = []
    for name in (name for name in VARIANTS if name in asked):
        reason = reason_to_leave_out(name)
        if reason is None:
            chosen.append(name)
        else:
            print(f"{name} is left out: {reason}")
    return chosen


@contextlib.contextmanager
def weights_file(model: str, wanted: str) -> Iterator[Path]:
    """The weights to run with; random ones are deleted afterwards."""
    if wanted not in ("auto", "random"):
        yield Path(wanted)
        return
    if wanted == "auto":
        try:
            yield fetch(f"{model}.weights")
            return
        except DownloadError as error:
            print(f"{model}.weights cannot be had ({str(error).splitlines()[0]})")
    print("weights: random values in Darknet's format; they detect nothing, at the same speed")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{model}-random.weights"
        write_random_weights(NETWORKS / f"{model}.cfg", path)
        yield path


def default_photo() -> Path:
    """dog.jpg, the photo every YOLO is shown with, or one that came with scikit-image."""
    try:
        return fetch("dog.jpg")
    except DownloadError:
        return sample_photos()["motorcycle_left"]


def probe(variant: str, work: Work, batch: int, loads: int) -> dict[str, float | None]:
    """load_s and peak_mb of one variant, alone in a new process.

    Raises:
        ChildProcessError: that process failed; it is an OSError.
    """
    arguments = [variant, json.dumps(dataclasses.asdict(work)), str(batch), str(loads)]
    command = [sys.executable, "-m", "speed.pipelines", *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode:
        raise ChildProcessError(f"{variant}, alone in a process, failed:\n{done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def milliseconds(call: Callable, *arguments: object) -> tuple[float, object]:
    """How long a call took, and its result."""
    start = time.perf_counter()
    result = call(*arguments)
    return (time.perf_counter() - start) * 1e3, result


def time_one_call(pipeline: Pipeline, photos: Sequence[np.ndarray]) -> list[float]:
    """Milliseconds per photo of the `STAGES`."""
    before, prepared = milliseconds(pipeline.preprocess, photos)
    network, raw = milliseconds(pipeline.forward, prepared)
    after, _ = milliseconds(pipeline.postprocess, raw)
    total, _ = milliseconds(find, pipeline, photos)
    return [value / len(photos) for value in (before, network, after, total)]


def take_turns(
    pipelines: dict[str, Pipeline], photos: Sequence[np.ndarray], rounds: int
) -> dict[str, list[float]]:
    """Medians of the `STAGES` of each variant, in milliseconds per photo."""
    samples: dict[str, list[list[float]]] = {name: [] for name in pipelines}
    turns = [name for _ in range(rounds) for name in pipelines]
    for name in tqdm(turns, desc=f"batch {len(photos)}", unit="turn"):
        for _ in range(2):
            find(pipelines[name], photos)
        time.sleep(PAUSE_S)
        find(pipelines[name], photos)
        samples[name] += [
            time_one_call(pipelines[name], photos) for _ in range(max(1, CALLS // len(photos)))
        ]
    return {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in samples.items()
    }


def measure(
    model: str, work: Work, pipelines: dict[str, Pipeline], batches: list[int], rounds: int
) -> list[dict]:
    """The records of the table: one for each batch and variant."""
    photo = read_photo(work.photo)
    records, loads = [], {}
    for batch in batches:
        times = take_turns(pipelines, [photo] * batch, rounds)
        for name in tqdm(pipelines, desc="memory", unit="process"):
            repeats = 1 if name in loads or name.endswith("int8") else 3
            alone = probe(name, work, batch, repeats)
            engine, precision = name.split("-")
            record = {"model": model, "size": work.size, "engine": engine, "precision": precision}
            record["batch"] = batch
            record["load_s"] = round(loads.setdefault(name, alone["load_s"]), 3)
            values = zip(STAGES, times[name], strict=True)
            record |= {stage: round(value, 3) for stage, value in values}
            peak = alone["peak_mb"]
            records.append(record | {"peak_mb": None if peak is None else round(peak, 1)})
    return records


def format_table(records: list[dict]) -> str:
    """The records as text, with the ratio of their total time to OpenCV's."""
    against = {r["batch"]: r["total_ms"] for r in records if r["engine"] == "opencv"}
    lines = [
        "milliseconds are per photo (those of a batch / photos in it); load and peak are of a",
        "process that runs the variant alone with this batch",
        f"{'engine':13}{'precision':9}{'batch':>6}{'load s':>8}{'preproc.':>10}{'forward':>10}"
        f"{'postproc.':>10}{'total':>10}{'/ opencv':>10}{'peak MB':>9}",
    ]
    for r in records:
        peak = "-" if r["peak_mb"] is None else f"{r['peak_mb']:.0f}"
        ratio = r["total_ms"] / against.get(r["batch"], math.nan)
        lines.append(
            f"{r['engine']:13}{r['precision']:9}{r['batch']:6}{r['load_s']:8.2f}"
            + "".join(f"{r[stage]:10.2f}" for stage in STAGES)
            + (f"{'-' if math.isnan(ratio) else f'{ratio:.2f}x':>10}{peak:>9}")
        )
    return "\n".join(lines)


def print_shares(records: list[dict], work: Work) -> None:
    """Two further figures: the share of postprocessing, and loading against plain reading."""
    for r in records:
        if (r["engine"], r["precision"]) == ("torch", "fp32"):
            share = r["postprocess_ms"] / r["total_ms"]
            print(f"postprocessing, torch-fp32, batch {r['batch']}: {share:.1%} of photo-to-boxes")
    loading, reading = loading_seconds(work.cfg, work.weights)
    print(
        f"loading {Path(work.weights).name} into the network: {loading:.3f} s, "
        f"{loading / reading:.2f}x the {reading:.3f} s of reading the file into memory"
    )


def run(options: argparse.Namespace, weights: Path) -> int:
    """Check, measure, print; returns how often the variants do not find the same."""
    cfg, names = (str(NETWORKS / name) for name in (f"{options.model}.cfg", "coco.names"))
    photo = str(options.photo or default_photo())
    work = Work(cfg, str(weights), names, photo, options.size, options.threads)
    read_photo(photo)  # a bad photo is reported before the networks are loaded
    torch.set_num_threads(work.threads)
    cv2.setNumThreads(work.threads)
    variants = choose_variants(options.variants)
    if not variants:
        raise ValueError("none of the variants can run on this machine")
    # Ours first: they check the options and files with clear errors.
    pipelines = {name: build(name, work) for name in variants}
    differences = check_equal_work(pipelines, work)
    for line in differences:
        print(f"error: {line}", file=sys.stderr)
    records = measure(options.model, work, pipelines, options.batch, options.rounds)
    print(
        f"{options.model} at {work.size} x {work.size}, {work.threads} threads, {Path(photo).name}"
    )
    print(format_table(records))
    print_shares(records, work)
    if options.json:
        write_json(Path(options.json), records, indent=1)
    return len(differences)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_options(arguments)
    with Command("stopped; nothing was written") as command:  # noqa: SIM117
        with weights_file(options.model, options.weights) as weights:
            command.failed = run(options, weights)
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
