"""Stored comparisons: what the command trains, prints and keeps."""

import pytest

import compare
from common.comparison import read_comparison
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
    assert all(one["average_decay"] == 0 for one in seen)
    runs = read_comparison(tmp_path / "ideas.json")
    assert list(runs) == ["published", "mosaic"]
    assert {"AP", "AP50"} <= set(runs["mosaic"][0]["bbox"])
    assert f"{'mosaic':30} AP50" in capsys.readouterr().out


def test_each_arm_changes_one_thing():
    published = make_settings("street", **compare.PUBLISHED)
    for arm, changes in compare.IDEAS.items():
        made = make_settings("street", **compare.PUBLISHED | changes)
        different = [name for name in vars(made) if getattr(made, name) != getattr(published, name)]
        assert len(different) == (arm != "published"), arm


@pytest.mark.parametrize("name", compare.COMPARISONS)
def test_what_is_stored_is_whole(name):
    stored = read_comparison(compare.RESULTS / f"{name}.json")
    assert list(stored) == list(compare.COMPARISONS[name][1])
    seeds = [[one["seed"] for one in runs] for runs in stored.values()]
    assert all(one == seeds[0] == sorted(set(one)) and len(one) >= 3 for one in seeds)


@pytest.mark.full
def test_a_stored_training_made_again_gives_what_is_stored():
    stored = read_comparison(compare.RESULTS / "ideas.json")["published"][0]
    again = compare.COMPARISONS["ideas"][1]["published"](stored["seed"])
    assert again["bbox"]["AP"] == pytest.approx(stored["bbox"]["AP"], abs=0.05)
