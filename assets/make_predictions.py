"""Predict the street scene of the figures with trained models, and store what they say.

Nothing is trained here. Train first, in the lessons' folders (or run their notebooks):

    01_mask_r_cnn_fine_tuning    python train.py --out runs/street     gives best.pt
    02_yolo_v3_darknet           python train.py --out runs/street     gives model.cfg, .weights
    03_semantic_segmentation     python train.py --out runs/street     gives best.pt

Examples:
    python assets/make_predictions.py \\
        --masks 01_mask_r_cnn_fine_tuning/runs/street/best.pt \\
        --yolo 02_yolo_v3_darknet/runs/street/model.cfg \\
        --segmentation 03_semantic_segmentation/runs/street/best.pt
    python assets/make_predictions.py --yolo 02_yolo_v3_darknet/runs/street/model.cfg
                                                 the other answers stay as they are
    python assets/make_predictions.py --masks ... --yolo ... --segmentation ... \\
        --look build/scenes --seeds 0 30        draw candidates, to choose SCENE_SEED by eye

The result, predictions.json, is small: names, scores, boxes, and masks as run lengths. A class is
in the picture as surely as the detector's best box of it. Then run make_figures.py.

Exit code: 0 done, 2 bad usage, or a model that cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from figure_style import SETTINGS
from figures_tasks import draw_tasks
from lesson_modules import BOXES, MASK_RCNN, SEMANTIC, TOOLS, YOLO
from street_scene import PREDICTIONS, SCENE_SEED, predictions, scene, thumbnail

SCORE_THRESHOLD = 0.7
LOWEST_SCORE = 0.001  # of the boxes that say how likely a class is to be in the picture


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--masks", type=Path, help="best.pt of lesson 01, Mask R-CNN")
    add("--yolo", type=Path, help="model.cfg of lesson 02; its two files beside it")
    add("--segmentation", type=Path, help="best.pt of lesson 03")
    add("--out", type=Path, default=PREDICTIONS, help="file to write (assets/predictions.json)")
    add("--look", type=Path, metavar="FOLDER", help="draw candidate scenes there, write nothing")
    add("--seeds", type=int, nargs=2, default=(0, 12), help="first and end (excluded) for --look")
    options = parser.parse_args(arguments)
    given = [options.masks, options.yolo, options.segmentation]
    if given == [None] * 3 or (options.look and None in given):
        parser.error("give a trained model, and all three for --look")
    return options


def entry(name: str, label: int, score: float, box_xyxy: list[float]) -> dict[str, Any]:
    """Describe one object that was found, with numbers short enough to read."""
    box = [round(float(value), 1) for value in box_xyxy]
    return {"class_name": name, "label": label, "score": round(float(score), 3), "box_xyxy": box}


class Models:
    """The trained models of the three lessons; None for one that is not asked.

    Raises:
        ValueError: a file that cannot be used; the message names it.
    """

    def __init__(self, masks: Path | None, yolo: Path | None, segmentation: Path | None) -> None:
        self.asked = {"masks": masks, "boxes": yolo, "semantic": segmentation}
        if masks:
            found = MASK_RCNN.load("model").load_detector(masks)
            self.detector, self.mask_names, settings = found
            if settings.task != "masks":
                raise ValueError(f"{masks} finds boxes only; --masks needs a Mask R-CNN")
        if yolo:
            files = {kind: yolo.with_suffix(f".{kind}") for kind in ("weights", "names")}
            load = YOLO.load("detector").Detector
            self.yolo = load(cfg=yolo, score_threshold=LOWEST_SCORE, **files)
        if segmentation:
            found = SEMANTIC.load("evaluation").load_model(segmentation)
            self.segmenter, self.semantic_names, self.segmentation_settings = found

    def masks(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Lesson 01: boxes and masks, best first."""
        found = MASK_RCNN.load("predict").predict(self.detector, image, SCORE_THRESHOLD)
        code, result = BOXES.load("masks"), []
        for k, label in enumerate(found["labels"].tolist()):
            one = entry(self.mask_names[label - 1], label, found["scores"][k], found["boxes"][k])
            text = code.pack_runs(code.encode_runs(found["masks"][k].numpy()))
            result.append(one | {"segmentation": text})
        return result

    def boxes(self, image: np.ndarray) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Lesson 02: the boxes of five classes, best first, and the best score of each class.

        Labels count from 1, as in lesson 01.
        """
        with YOLO:
            found = self.yolo(image)
        best = dict.fromkeys(self.yolo.class_names, 0.0)
        for one in found[::-1]:
            best[one.label] = max(best[one.label], round(one.score, 3))
        classes = [{"class_name": name, "score": score} for name, score in best.items()]
        sure = [one for one in found if one.score >= SCORE_THRESHOLD]
        boxes = [entry(d.label, d.class_index + 1, d.score, d.box_xyxy) for d in sure]
        return boxes, sorted(classes, key=lambda one: -one["score"])

    def semantic(self, image: np.ndarray) -> dict[str, str]:
        """Lesson 03: the pixels of each class that occurs, as run lengths."""
        predict, code = SEMANTIC.load("predict"), BOXES.load("masks")
        labels = predict.predict(self.segmenter, image, tuple(self.segmentation_settings.window))
        return {
            self.semantic_names[k]: code.pack_runs(code.encode_runs(labels == k))
            for k in np.unique(labels).tolist()
        }


def predict_scene(models: Models, seed: int = SCENE_SEED) -> dict[str, Any]:
    """Ask the models about one scene; the answers are in the form of predictions.json."""
    image, asked = scene(seed).image, models.asked
    answers: dict[str, Any] = {"scene": {"seed": seed, "thumbnail": thumbnail(image)}}
    if asked["boxes"]:
        answers["boxes"], answers["classification"] = models.boxes(image)
    if asked["masks"]:
        answers["masks"] = models.masks(image)
    if asked["semantic"]:
        answers["semantic"] = models.semantic(image)
    return answers


def look(models: Models, seeds: range, folder: Path) -> None:
    """Draw the four answers for each scene into `folder`, to choose one by eye."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        with mpl.rc_context(SETTINGS):
            figure = draw_tasks(scene(seed).image, predict_scene(models, seed))
        figure.savefig(folder / f"scene_{seed:03}.png", dpi=50)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_arguments(arguments)
    try:
        models = Models(options.masks, options.yolo, options.segmentation)
        if options.look:
            look(models, range(*options.seeds), options.look)
            return 0
        kept = {} if all(models.asked.values()) else predictions()
        text = json.dumps(kept | predict_scene(models), indent=1)
        with TOOLS.load("atomic").replacing(options.out) as file:
            file.write(f"{text}\n".encode())
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
