"""Train a YOLOv3 on photos of your own, and get a Darknet model.

The network starts from weights that were trained on the 80 classes of COCO, gets new outputs for
your classes, and learns from your boxes. In the folder OUT you find afterwards:

    model.cfg, model.weights, model.names   the detector: detect.py, OpenCV 4 and Darknet run it
    metrics.json                            AP, AP50 ... on the test photos, seconds of training
    curves.png                              the loss over the steps, AP over the epochs
    precision_recall.png                    what a lower score threshold gains and costs
    confusion.png                           which class is taken for which, missed, or made up
    last.pt                                 everything that --resume needs
"""

from __future__ import annotations

import argparse
import sys

from common.coco_metrics import format_metrics, precision_curves, run_coco, summarize
from common.coco_truth import crowded_note
from common.command import Command, given_settings, write_json
from common.confusion import confusion_matrix
from common.loading import fit_batch
from common.processes import Processes, connected
from common.run import Run
from common.settings import training_parser
from common.training_figures import write_figures
from dataset import DetectionData, load_data
from engine import save_model, train
from evaluation import collect
from settings import PRESETS, Settings, make_settings

CONFUSION_SCORE = 0.25  # of confusion.png: what detect.py shows

EPILOG = """examples:
  python train.py --out runs/street                         drawn street scenes, five classes
  python train.py --data my_photos --epochs 40 --out runs/mine
  python train.py --data bccd --on-invalid drop --out runs/bccd
  python train.py --out runs/street --resume                go on after a stop, exactly
  torchrun --nproc-per-node 2 train.py --batch-size 16 --out runs/two
  python detect.py --cfg runs/mine/model.cfg --weights runs/mine/model.weights \\
      --names runs/mine/model.names photo.jpg

your own photos (--data PATH), which are looked at by python check_data.py PATH:
  COCO         a JSON file, also train.json and val.json, or one in each of train/ and valid/
  Pascal VOC   Annotations/*.xml, JPEGImages, ImageSets/Main/train.txt; or XML beside the pictures
  YOLO         images/, labels/ and classes.txt or data.yaml; or train/ and val/; or a .yaml file
  Darknet      obj.data with its lists; or train/ and valid/ with _darknet.labels
  labelme      x.json beside x.jpg
  CVAT         annotations.xml, of the export "for images"
  Penn-Fudan   PNGImages/x.png, PedMasks/x_mask.png: a number for each person
Without lists of its own, the data is divided into 10 parts for training, 2 for validation and 5
for the test.

what to try when the scores are low:
  more epochs first; then --size 416 for small objects, or the photos' own shape, height x width:
  --size 288x384 for photos of 4:3; --test-size 320x416: the finished model sees a little more;
  --box-loss ciou --positive-iou 0.4: the overlap itself is learned, by several anchors;
  --mosaic 0.5 in runs of 50 epochs or more; --flip-vertical 0.5 for photos without an up;
  --learning-rate 1e-3 if the loss jumps; and look at confusion.png: many "missed" want more
  photos or a larger size, mixed-up classes want better labels.

exit code: 0 done, 2 bad usage or data, or stopped"""


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    return training_parser(__doc__, EPILOG, Settings, PRESETS).parse_args(arguments)


def train_and_report(options: argparse.Namespace, processes: Processes) -> None:
    """Train as the options say; the first process measures and writes the results."""
    settings = make_settings(**given_settings(options, Settings))
    data = processes.in_turn(lambda: load_data(settings))
    if processes.rank == 0:
        print(data.report)
    if options.batch_size is None:
        settings = fit_batch(settings, len(data.train), processes)
    if processes.rank == 0:
        print(f"preset {settings.preset} on {processes.device}: {settings}")
    run = train(
        settings,
        data,
        options.out,
        resume=options.resume,
        checkpoint_every=options.checkpoint_every,
        processes=processes,
    )
    if processes.rank == 0:
        write_results(run, data)


def write_results(run: Run, data: DetectionData) -> None:
    """Write the model, measure it on the test photos, write the results, and show the metrics."""
    save_model(run, data.class_names)
    size, most = run.settings.final_size, run.settings.max_detections
    truth, detections = collect(run.model, data.test, size, max_detections=most)
    measured = run_coco(truth, detections, most)
    curves = precision_curves(measured["bbox"])
    matrix = confusion_matrix(truth, detections, CONFUSION_SCORE)
    write_figures(run.folder, run.history, run.epochs, curves, matrix, data.class_names)
    metrics = summarize(measured)
    write_json(run.folder / "metrics.json", {**metrics, "seconds": run.seconds})
    print(format_metrics(metrics))
    if note := crowded_note(truth, most):
        print(note)
    print(f"{run.seconds:.0f} s of training; results in {run.folder}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_options(arguments)
    with Command(f"stopped; go on with --out {options.out} --resume") as command:  # noqa: SIM117
        with connected() as processes:
            train_and_report(options, processes)
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
