"""Damaged or random cfg and weights files: each loads, or is refused with a place in it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
COUNT = 5_000  # with --full; a tenth without


@pytest.fixture(scope="module")
def outcome(tmp_path_factory, cases):
    """What the process of its own reports; one that hangs fails here."""
    lesson, work = HERE.parents[1] / HERE.name, tmp_path_factory.mktemp("fuzz")
    command = [sys.executable, HERE / "fuzz_files.py", lesson, work, "--count", str(cases(COUNT))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


@pytest.mark.slow
def test_every_file_loads_or_is_refused_with_its_place(outcome, cases):
    assert outcome["wrong"] == []
    assert outcome["loaded"] + outcome["refused"] == cases(COUNT)
    kinds = outcome["kinds"]
    assert kinds["loaded .cfg"] > 20 and kinds["loaded .weights"] > 10  # damage is not too coarse
    assert len(kinds) > 30  # and not too uniform


@pytest.mark.slow
def test_none_hangs_or_takes_a_gigabyte(outcome):
    assert outcome["slowest"][0] < 5, outcome["slowest"]
    assert outcome["grown"] < 1_000_000_000


NET = "[net]\nwidth=8192\nheight=8192\n[convolutional]\n"
DENSE = "[net]\nwidth=8\nheight=8\nchannels=1024\n[convolutional]\nsize=8\n"
LARGE = {  # cfg: a part of the error's text, None where it is allowed
    NET + "filters=1000000000": "line 5: filters='1000000000': must be a whole number from 1 to",
    NET + "filters=65536\nsize=63": "line 4: layer 0: the network has 780,",
    NET + "filters=65536": "a map of 65536 x 8192 x 8192 is larger than the 134,217,728 values",
    NET + "filters=16384\nsize=63\nstride=64": "the network has 195,",
    DENSE + "filters=2048": "the network has 134,219,776 weights by now, 134,217,728 are allowed",
    DENSE + "filters=2047": None,  # half a gigabyte of weights, the most there can be
}
SCRIPT = """
import sys
sys.path[:0] = sys.argv[1:3]
import torch
from darknet import Darknet, DarknetFileError
from fuzz_files import limit_memory
torch.set_num_threads(1)
limit_memory(10**9)
for cfg in sys.argv[3:]:
    try:
        Darknet(cfg)
        print("built")
    except DarknetFileError as error:
        print(error)
"""


def test_huge_networks_are_refused_before_memory_is_taken(tmp_path):
    """In a process that may take 1 GB more than it has after its imports."""
    paths = [tmp_path / f"{number}.cfg" for number in range(len(LARGE))]
    for path, text in zip(paths, LARGE, strict=True):
        path.write_text(text)
    command = [sys.executable, "-c", SCRIPT, HERE.parents[1] / HERE.name, HERE, *paths]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    for line, expected in zip(run.stdout.splitlines(), LARGE.values(), strict=True):
        assert (expected or "built") in line
