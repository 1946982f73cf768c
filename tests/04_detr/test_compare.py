"""Stored comparisons: what an arm returns, and that what is stored is whole."""

from itertools import pairwise

import pytest

import compare
from common.comparison import read_comparison
from settings import make_settings


def test_the_command_trains_and_prints_a_table(scenes, tmp_path, monkeypatch, capsys):
    def tiny(preset, **changes):
        changes |= {"data": str(scenes), "pretrained": False, "image_size": (72, 96), "epochs": 1}
        return make_settings(preset, **changes, num_queries=6)

    monkeypatch.setattr(compare, "make_settings", tiny)
    assert compare.main(["ideas", "--out", str(tmp_path)]) == 0
    stored = read_comparison(tmp_path / "ideas.json")
    assert list(stored) == list(compare.IDEAS)
    (one,) = stored["+ denoising"]
    assert set(one) == {
        "arm", "seed", "bbox", "per_class", "stages", "history", "seconds",
    }  # fmt: skip
    assert list(one["stages"]) == list(compare.STAGES)
    assert one["stages"]["layer 3"]["AP"] == one["bbox"]["AP"]
    assert list(stored["DETR of 2020"][0]["stages"]) == list(compare.STAGES[1:])
    assert one["history"][0][0] == 0 and one["history"][0][1] > 0
    assert f"{'DETR of 2020':30} AP with suppression" in capsys.readouterr().out


def test_each_arm_adds_one_idea():
    ideas = [{k: v for k, v in one.items() if k != "epochs"} for one in compare.IDEAS.values()]
    settings = [make_settings("street", **one) for one in ideas]
    names = ("maps", "queries", "refine", "denoising")
    for (one, other), changed in zip(pairwise(settings), names, strict=True):
        assert [n for n in names if getattr(one, n) != getattr(other, n)] == [changed]
    assert settings[-2] == make_settings("street")  # noisy queries did not pay


def test_the_longer_trainings_are_stored():
    assert list(read_comparison(compare.RESULTS / "longer.json")) == list(compare.LONGER)


def test_what_is_stored_is_whole():
    stored = read_comparison(compare.RESULTS / "ideas.json")
    assert list(stored) == list(compare.IDEAS)
    seconds = [one["seconds"] for runs in stored.values() for one in runs]
    assert max(seconds) < 1.25 * min(seconds)  # "the same minutes"


@pytest.mark.full
def test_a_stored_training_made_again_gives_what_is_stored():
    stored = read_comparison(compare.RESULTS / "ideas.json")["+ denoising"][0]
    again = compare.COMPARISONS["ideas"][1]["+ denoising"](stored["seed"])
    assert again["bbox"]["AP"] == pytest.approx(stored["bbox"]["AP"], abs=0.05)
