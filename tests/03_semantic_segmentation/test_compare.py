"""Stored comparisons: every arm trains, the rare class is the painter's, errors near boundaries."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import compare
from common.comparison import read_comparison
from common.downloads import cache_dir
from common.masks.nuclei import FOLDER_NAME
from common.masks.rare_class import RARE_CLASSES, union, write_rare_masks
from common.settings import plain_values
from common.street.scenes import draw_scene, write_dataset
from dataset import SegmentationData, load_data
from metrics import BoundaryErrors, distance_to_boundary
from settings import PRESETS, make_settings

STORED = sorted(path.stem for path in compare.RESULTS.glob("*.json"))
ON_SCENES = [name for name in compare.COMPARISONS if name != "nuclei"]  # see test_nuclei.py


@pytest.fixture
def tiny(monkeypatch, scenes, tmp_path):
    """Two steps of two small scenes, without trained weights."""

    def settings(preset, **changes):
        small = {"data": str(scenes), "batch_size": 2, "pretrained": False}
        return make_settings(preset, **{**changes, **small})

    def draw(folder, part, count, progress):
        first = {"train": 0, "validation": 20, "test": 30}[part]
        return write_dataset(tmp_path / part, range(first, first + 4), 96, 72, progress=False)

    monkeypatch.setattr(compare, "make_settings", settings)
    monkeypatch.setattr(compare, "draw_part", draw)
    monkeypatch.setattr(compare, "STEPS", dict.fromkeys(compare.STEPS, 2))


@pytest.mark.parametrize("name", ON_SCENES)
def test_every_arm_trains_and_is_stored(name, tiny, monkeypatch, tmp_path, capsys):
    for options in compare.ARMS[name].values():
        for key, small in (("epochs", 1), ("steps", 2)):
            if key in options:
                monkeypatch.setitem(options, key, small)
    assert compare.main([name, "--out", str(tmp_path)]) == 0
    stored = read_comparison(tmp_path / f"{name}.json")
    assert list(stored) == list(compare.ARMS[name])
    for (one,) in stored.values():
        assert one["steps"] == 2 and len(one["curve"]) == 1
        assert set(one["per_class"]) >= {"dog" if name == "rare" else "person"}
        assert 0 <= one["near"] <= 1 and 0 <= one["far"] <= 1
    assert "near" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("skips", {"skips"}),
        ("rare", {"loss_weights", "balance_classes"}),
        ("pretraining", {"pretrained"}),
        ("augmentation", {"flip", "photometric", "scale", "crop_size"}),
        ("deeplab", {"model"}),
    ],
)
def test_arms_differ_in_what_they_compare_alone(name, changed, scenes, monkeypatch):
    seen = []
    monkeypatch.setattr(compare, "load_data", lambda settings, progress: load_few(scenes))
    monkeypatch.setattr(compare, "load_rare", lambda settings: load_few(scenes))
    monkeypatch.setattr(compare, "fit", lambda *given: seen.append((given[0], given[2])))
    for options in compare.ARMS[name].values():
        compare.arm(name, options, 3)
    values = [plain_values(settings) for settings, _ in seen]
    assert {key for one in values for key in one if one[key] != values[0][key]} == changed
    assert all(one["seed"] == 3 for one in values)
    assert len({repr(one) for one in values}) == len(values)


def load_few(scenes: Path) -> SegmentationData:
    return load_data(make_settings("street", data=str(scenes), batch_size=1), progress=False)


def test_as_many_steps_as_asked_for_whatever_the_pictures(tiny):
    found = compare.street(0, 5, 1, model="unet", epochs=2)
    assert found["steps"] == 4 and len(found["curve"]) == 2


def test_dogs_are_the_painters(tmp_path):
    seeds = range(100_000, 100_012)
    scenes = write_dataset(tmp_path, seeds, 128, 96, progress=False)
    dogs = 0
    for _ in range(2):  # made, and read again
        for seed, (picture, mask) in zip(seeds, write_rare_masks(scenes), strict=True):
            scene = draw_scene(seed, 128, 96)
            expected = np.isin(scene.instances, np.flatnonzero(scene.labels == 4) + 1)
            assert np.array_equal(np.array(Image.open(mask)), expected)
            assert picture.stem == f"scene_{seed:05d}"
            dogs += expected.sum()
    assert dogs > 0 and RARE_CLASSES[1] == "dog"


def test_run_lengths_by_hand():
    expected = np.array([[0, 1, 0], [1, 1, 0]])
    assert np.array_equal(union([[1, 3, 2]], 2, 3), expected)
    assert np.array_equal(union([[1, 1, 4], [2, 2, 2], [6]], 2, 3), expected)
    assert not union([], 2, 3).any()


def test_distance_and_errors_against_slow_loops():
    generator = np.random.default_rng(0)
    for _ in range(5):
        labels = np.kron(generator.integers(0, 3, (3, 4)), np.ones((4, 4), int)).astype(np.uint8)
        labels[0, 0] = 255
        found = np.where(generator.random(labels.shape) < 0.3, 1, labels).astype(np.uint8)
        found[0, 0] = 0
        slow = np.full(labels.shape, np.inf)
        places = list(np.ndindex(*labels.shape))
        for one in places:
            for other in places:
                if labels[one] != labels[other]:
                    slow[one] = min(slow[one], np.hypot(one[0] - other[0], one[1] - other[1]))
        np.testing.assert_allclose(distance_to_boundary(labels), slow, rtol=1e-3)
        errors = BoundaryErrors()
        for _ in range(2):
            errors.update(torch.from_numpy(found), torch.from_numpy(labels))
        wrong, counted = found != labels, labels != 255
        near = slow <= 2
        assert errors.shares() == pytest.approx(
            (wrong[near & counted].mean(), wrong[~near & counted].mean())
        )


def test_one_label_has_no_boundary():
    flat = np.full((3, 4), 7, np.uint8)
    assert np.isinf(distance_to_boundary(flat)).all()
    errors = BoundaryErrors()
    errors.update(torch.zeros(3, 4, dtype=torch.uint8), torch.from_numpy(flat))
    near, far = errors.shares()
    assert np.isnan(near) and far == 1


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored_is_whole(name):
    stored = read_comparison(compare.RESULTS / f"{name}.json")
    assert set(stored) == set(compare.ARMS[name])
    seeds = [[one["seed"] for one in runs] for runs in stored.values()]
    # as many as the lesson's README says
    least = {"rare": 3, "nuclei": 3, "pretraining": 2}.get(name, 1)
    assert all(one == seeds[0] == sorted(set(one)) and len(one) >= least for one in seeds)
    for arm, runs in stored.items():
        for one in runs:
            assert one["steps"] == steps_of(name, arm, one)
            assert len(one["curve"]) == epochs_of(name, arm)


def epochs_of(name: str, arm: str) -> int:
    if name == "nuclei":
        return PRESETS["nuclei"].epochs
    return compare.ARMS[name][arm].get("epochs", 1)


def steps_of(name: str, arm: str, run: dict) -> int:
    if name == "nuclei":
        nuclei = PRESETS["nuclei"]
        return nuclei.epochs * (run["pictures"]["train"] // nuclei.batch_size)
    return compare.ARMS[name][arm].get("steps", compare.STEPS[name])


@pytest.mark.full
@pytest.mark.parametrize("name", STORED)
def test_a_stored_training_made_again_gives_what_is_stored(name):
    arm, (stored, *_) = next(iter(read_comparison(compare.RESULTS / f"{name}.json").items()))
    if name == "nuclei":
        cached = len(list((cache_dir() / FOLDER_NAME / "images").glob("*.png")))
        trained = sum(stored["pictures"].values())
        if cached != trained:
            pytest.skip(f"{cached} nuclei pictures in the cache, {trained} in what is stored")
    again = compare.COMPARISONS[name][1][arm](stored["seed"])
    assert again["mean_iou"] == pytest.approx(stored["mean_iou"], abs=0.05)
