"""2,000 damaged or random cfg and weights files: each loads, or is refused with a place in it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
COUNT = 2000


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What the process of its own reports; one that hangs fails here."""
    lesson, work = HERE.parents[1] / HERE.name, tmp_path_factory.mktemp("fuzz")
    command = [sys.executable, HERE / "fuzz_files.py", lesson, work, "--count", str(COUNT)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout)


@pytest.mark.slow
def test_every_file_loads_or_is_refused_with_its_place(outcome):
    assert outcome["wrong"] == []
    assert outcome["loaded"] + outcome["refused"] == COUNT
    kinds = outcome["kinds"]
    assert kinds["loaded .cfg"] > 100 and kinds["loaded .weights"] > 50  # damage is not too coarse
    assert len(kinds) > 40  # and not too uniform


@pytest.mark.slow
def test_none_hangs_or_takes_a_gigabyte(outcome):
    assert outcome["slowest"][0] < 5, outcome["slowest"]
    assert outcome["grown"] < 1_000_000_000


HOSTILE = {
    "filters=1000000000": "must be a whole number from 1 to 65536",
    "filters=65536\nsize=63": "the network has 780,4",
    "filters=65536": "a map of 65536 x 8192 x 8192 is larger than the 134,217,728 values",
    "filters=4096\nsize=63\ngroups=1\nstride=64": "the network has 48,",
}


@pytest.mark.parametrize("keys", HOSTILE)
def test_huge_networks_are_refused_before_memory_is_taken(tmp_path, keys):
    """In a process that may take 1 GB more than it has after its imports."""
    cfg = tmp_path / "huge.cfg"
    cfg.write_text(f"[net]\nwidth=8192\nheight=8192\n[convolutional]\n{keys}\n")
    message = load_in_limited_memory(cfg)
    assert HOSTILE[keys] in message


def test_the_largest_network_that_is_allowed_fits(tmp_path):
    """2^27 weights are half a gigabyte; one filter more is refused."""
    layer = "[net]\nwidth=8\nheight=8\nchannels=1024\n[convolutional]\nsize=8\nfilters={}\n"
    (tmp_path / "most.cfg").write_text(layer.format(2047))
    assert load_in_limited_memory(tmp_path / "most.cfg") is None
    (tmp_path / "more.cfg").write_text(layer.format(2048))
    message = load_in_limited_memory(tmp_path / "more.cfg")
    assert "the network has 134,219,776 weights by now, 134,217,728 are allowed" in message


SCRIPT = """
import sys
sys.path[:0] = [{lesson!r}, {here!r}]
import torch
from darknet import Darknet, DarknetFileError
from fuzz_files import limit_memory
torch.set_num_threads(1)
limit_memory(10**9)
try:
    Darknet({cfg!r})
except DarknetFileError as error:
    print(error)
"""


def load_in_limited_memory(cfg):
    """The error's text, or None where the network could be built."""
    names = {"lesson": str(HERE.parents[1] / HERE.name), "here": str(HERE), "cfg": str(cfg)}
    command = [sys.executable, "-c", SCRIPT.format(**names)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout.strip() or None
