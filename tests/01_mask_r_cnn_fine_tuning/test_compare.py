"""Stored comparisons: every way with every seed once, written as it goes, and gone on with."""

import json

import pytest

import compare
from common.comparison import mean_and_spread, read_comparison, run_comparison
from common.street.scenes import draw_scene, write_dataset
from common.street.views import VIEW_CLASSES, write_views
from dataset import DetectionDataset, load_data
from settings import make_settings


def test_a_stopped_comparison_goes_on_where_it_was(tmp_path):
    path, calls = tmp_path / "results" / "ways.json", []

    def way(name, broken=False):
        def train(seed):
            calls.append((name, seed))
            if broken:
                raise KeyboardInterrupt
            return {"bbox": {"AP": 0.1 * (seed + 1)}}

        return train

    with pytest.raises(KeyboardInterrupt):
        run_comparison(path, "which?", {"a": way("a"), "b": way("b", broken=True)}, range(2))
    assert [one["arm"] for one in json.loads(path.read_text())["runs"]] == ["a"]
    content = run_comparison(path, "which?", {"a": way("a"), "b": way("b")}, range(2))
    assert calls == [("a", 0), ("b", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert content["question"] == "which?" and set(content["versions"]) >= {"torch", "python"}
    runs = read_comparison(path)
    assert {arm: [one["seed"] for one in some] for arm, some in runs.items()} == {
        "a": [0, 1], "b": [0, 1],
    }  # fmt: skip


def test_mean_and_spread():
    assert mean_and_spread([0.5]) == "0.500"
    assert mean_and_spread([0.4, 0.6, 0.5]) == "0.500 (0.400 to 0.600)"


def test_the_command_trains_on_few_pictures_and_prints_a_table(
    scenes, tmp_path, monkeypatch, capsys
):
    def tiny(preset, **changes):
        changes |= {"data": str(scenes), "pretrained": False, "image_size": (72, 96)}
        return make_settings(preset, **changes)

    monkeypatch.setattr(compare, "make_settings", tiny)
    monkeypatch.setattr(compare, "load_views", lambda settings: load_data(settings, progress=False))
    monkeypatch.setattr(compare, "STEPS", 2)
    few = {"2": lambda seed: compare.train_on_few(2, seed)}
    monkeypatch.setitem(compare.COMPARISONS, "pictures", ("how many?", few))
    assert compare.main(["pictures", "--seeds", "2", "--out", str(tmp_path)]) == 0
    runs = read_comparison(tmp_path / "pictures.json")["2"]
    assert [one["seed"] for one in runs] == [0, 1]
    assert len(runs[0]["confusion"]) == len(runs[0]["per_class"]) + 1 == 6
    assert f"{'2':30} bbox AP" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        compare.main(["pictures", "--seeds", "0"])


@pytest.mark.parametrize("name", compare.COMPARISONS)
def test_what_is_stored_is_whole(name):
    stored = read_comparison(compare.RESULTS / f"{name}.json")
    assert list(stored) == list(compare.COMPARISONS[name][1])
    seeds = [[one["seed"] for one in runs] for runs in stored.values()]
    assert all(one == seeds[0] == sorted(set(one)) and len(one) >= 3 for one in seeds)


@pytest.mark.full
@pytest.mark.parametrize(("name", "arm"), [("pictures", "10"), ("backbones", "mobilenet_v2")])
def test_a_stored_training_made_again_gives_what_is_stored(name, arm):
    stored = read_comparison(compare.RESULTS / f"{name}.json")[arm][0]
    again = compare.COMPARISONS[name][1][arm](stored["seed"])
    for kind in ("bbox", "segm"):
        if kind in stored:
            assert again[kind]["AP"] == pytest.approx(stored[kind]["AP"], abs=0.05)


def test_own_classes_are_the_views_of_the_painter(tmp_path):
    seeds = range(40, 46)
    scenes = write_dataset(tmp_path, seeds, progress=False)
    data = DetectionDataset.from_path(write_views(scenes), masks=False)
    assert data.class_names == VIEW_CLASSES
    for seed, (_, target) in zip(seeds, data, strict=True):
        scene = draw_scene(seed)
        names = ("person", "car", "bicycle", "dog", "traffic light")
        expected = [
            f"{view} view" if view else names[label - 1]
            for label, view in zip(scene.labels, scene.views, strict=True)
        ]
        assert [VIEW_CLASSES[label - 1] for label in target["labels"]] == expected
    five = DetectionDataset.from_path(scenes, masks=False)
    assert five.class_names == ("person", "car", "bicycle", "dog", "traffic light")


def test_scenes_without_views_are_refused(tmp_path):
    scenes = write_dataset(tmp_path, range(40, 42), progress=False)
    labels = scenes / "annotations.json"
    content = json.loads(labels.read_text())
    for one in content["annotations"]:
        one.pop("view", None)
    labels.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="drawn without views; delete it"):
        write_views(scenes)
