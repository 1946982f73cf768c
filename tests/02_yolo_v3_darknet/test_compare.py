"""Stored comparisons: what the command trains, prints and keeps."""

import functools
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import compare
from common.comparison import read_comparison
from compare import DECAY, RAMP, RunningAverage
from settings import make_settings

SMALL = {"num_scenes": 4, "batch_size": 2, "epochs": 1, "size": 64}


def test_the_command_trains_each_way_and_prints_a_table(tmp_path, monkeypatch, capsys):
    seen = []

    def tiny(preset, **changes):
        seen.append(changes)
        return make_settings(preset, **changes | SMALL)

    def without_weights(*arguments):
        return "start: random weights"

    monkeypatch.setattr(compare, "make_settings", tiny)
    monkeypatch.setattr("engine.start", without_weights)
    few = {name: compare.COMPARISONS["ideas"][1][name] for name in ("published", "mosaic")}
    monkeypatch.setitem(compare.COMPARISONS, "ideas", ("which?", few))
    assert compare.main(["ideas", "--out", str(tmp_path)]) == 0
    assert [one["mosaic"] for one in seen if "mosaic" in one] == [0.5]
    assert all("mosaic" in one or set(one) == {"seed", *compare.SHORT} for one in seen)
    runs = read_comparison(tmp_path / "ideas.json")
    assert list(runs) == ["published", "mosaic"]
    assert {"AP", "AP50"} <= set(runs["mosaic"][0]["bbox"])
    assert f"{'mosaic':30} AP50" in capsys.readouterr().out


def test_each_engine_is_measured_with_the_same_weights(tmp_path, monkeypatch, capsys):
    def tiny(preset, **changes):
        return make_settings(preset, **changes | SMALL)

    monkeypatch.setattr(compare, "make_settings", tiny)
    monkeypatch.setattr("engine.start", lambda *arguments: "start: random weights")
    monkeypatch.setattr(compare, "CALIBRATION_SCENES", 2)
    arms = compare.COMPARISONS["engines"][1]
    assert list(arms) == list(compare.VARIANTS)
    few = {name: arms[name] for name in ("torch-fp32", "onnxruntime-fp32", "opencv-fp32")}
    monkeypatch.setitem(compare.COMPARISONS, "engines", ("which?", few))
    trained, calls = compare.trained.__wrapped__, []
    monkeypatch.setattr(
        compare, "trained", functools.cache(lambda seed: calls.append(seed) or trained(seed))
    )
    assert compare.main(["engines", "--out", str(tmp_path)]) == 0
    assert calls == [0], "trained once"
    runs = read_comparison(tmp_path / "engines.json")
    for one in runs.values():
        assert one[0]["bbox"] == pytest.approx(runs["torch-fp32"][0]["bbox"], abs=1e-3)


def test_each_arm_changes_one_thing():
    for arm, changes in compare.IDEAS.items():
        assert len(changes) == (arm != "published"), arm
        settings = {key: value for key, value in changes.items() if key != "average"}
        made = make_settings("street", **settings)
        assert (made == make_settings("street")) == (arm in ("published", "moving average"))


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


def test_the_average_follows_its_formula(layers):
    average, run, bias = RunningAverage(), SimpleNamespace(model=layers), layers[0].bias
    wanted = 0.0
    for step, value in enumerate((1.0, 5.0, -2.0), start=1):
        with torch.no_grad():
            bias.fill_(value)
        average(run)
        stays = 0.0 if step == 1 else DECAY * (1 - math.exp(-step / RAMP))  # the first is copied
        wanted = stays * wanted + (1 - stays) * value
    assert torch.allclose(average.model.module[0].bias, torch.tensor(wanted))
    assert bias[0] == -2.0, "the trained weights stay"
    average.model.n_averaged.fill_(100 * RAMP)
    with torch.no_grad():
        bias.fill_(7.0)
    average(run)
    expected = torch.tensor(DECAY * wanted + (1 - DECAY) * 7)
    assert torch.allclose(average.model.module[0].bias, expected), "it remembers long in the end"


def test_the_average_includes_batch_norm_statistics(layers):
    average, run, norm = RunningAverage(), SimpleNamespace(model=layers), layers[1]
    for value in (0.0, 4.0):
        norm.running_mean.fill_(value)
        norm.num_batches_tracked += 1
        average(run)
    stays = DECAY * (1 - math.exp(-2 / RAMP))
    mean = average.model.module[1]
    assert torch.allclose(mean.running_mean, torch.tensor(4 * (1 - stays)))
    assert mean.num_batches_tracked == norm.num_batches_tracked == 2


@pytest.mark.parametrize("name", compare.COMPARISONS)
def test_what_is_stored_is_whole(name):
    stored = read_comparison(compare.RESULTS / f"{name}.json")
    assert list(stored) == list(compare.COMPARISONS[name][1])
    seeds = [[one["seed"] for one in runs] for runs in stored.values()]
    fewest = 1 if name == "engines" else 3  # there the weights are the same for all
    assert all(one == seeds[0] == sorted(set(one)) and len(one) >= fewest for one in seeds)


@pytest.mark.full
def test_a_stored_training_made_again_gives_what_is_stored():
    stored = read_comparison(compare.RESULTS / "ideas.json")["published"][0]
    again = compare.COMPARISONS["ideas"][1]["published"](stored["seed"])
    assert again["bbox"]["AP"] == pytest.approx(stored["bbox"]["AP"], abs=0.05)
