"""Feed damaged cfg and weights files to the lesson's reader, in a process of limited memory.

    python fuzz_files.py LESSON_FOLDER WORK_FOLDER --count 2000 --seed 1

Prints a JSON object: how many files loaded and how many were refused, every other outcome in full,
the slowest file (seconds of processor time,
number, kind), and by how many bytes the memory grew. Address space is limited to
1 GB above what the imports took (on Linux), so that a larger allocation fails.
"""

import argparse
import json
import random
import re
import sys
import time
from pathlib import Path

SMALL = """[net]
width=32
height=64
channels=3
batch=1
[convolutional]
batch_normalize=1
filters=8
size=3
stride=1
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
filters=8
size=3
stride=2
pad=1
groups=2
activation=mish
[convolutional]
batch_normalize=1
filters=8
size=1
activation=relu
[shortcut]
from=-2
activation=linear
[maxpool]
size=5
stride=1
[route]
layers=-1,-3
groups=2
group_id=1
[convolutional]
filters=14
size=1
activation=linear
[yolo]
mask=1,2
anchors=10,14, 23,27, 37,58
classes=2
num=3
scale_x_y=1.05
ignore_thresh=.7
[route]
layers=-3
[upsample]
stride=2
[route]
layers=-1, 1
[convolutional]
filters=7
size=1
activation=logistic
[yolo]
mask=0
anchors=10,14, 23,27, 37,58
classes=2
num=3
"""
EXTREMES = (
    """0 -0 -1 1 2 3 7 63 64 65535 65536 65537 1000000000 2147483647 2147483648
-2147483649 9223372036854775808 1e9 1e38 1e39 1e308 1e999 -1e308 nan inf -inf 0.5 1.5 x 0x10 1_000
\u0663""".split()
    + ["", "9" * 5000, "1," * 5000, "-" * 300, "1" * 40 + ".5"]
)
WORDS = """[net] [convolutional] [maxpool] [upsample] [route] [shortcut] [yolo] [region] filters
size stride pad padding groups group_id layers from mask anchors classes num scale_x_y activation
leaky mish relu logistic linear swish batch_normalize width height channels""".split()
PLACE = re.compile(r"line \d|byte [\d,]+|[\d,]+ bytes|layer \d|blocks|web page")
MOST_WEIGHTS, MOST_VALUES = 300_000, 3_000_000  # larger networks are planned, but not run


def limit_memory(more: int) -> None:
    """Let allocations fail that go `more` bytes beyond what is in use now."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):
        return
    now = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + more, resource.getrlimit(resource.RLIMIT_AS)[1]))


def peak_bytes() -> int:
    """The largest memory this process had so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def replace_number(chance: random.Random, text: str) -> str:
    numbers = list(re.finditer(r"-?[\d.]+", text))
    if not numbers:
        return text
    number = chance.choice(numbers)
    value = chance.choice(EXTREMES) if chance.random() < 0.5 else str(chance.randint(-4, 9))
    return text[: number.start()] + value + text[number.end() :]


def replace_word(chance: random.Random, text: str) -> str:
    words = list(re.finditer(r"\[?[a-z_]{3,}\]?", text))
    if not words:
        return text
    word = chance.choice(words)
    return text[: word.start()] + chance.choice(WORDS) + text[word.end() :]


def change_lines(chance: random.Random, text: str) -> str:
    lines = text.split("\n")
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    end = first + chance.choice([1, 1, 1, 7])
    way = chance.randrange(4)
    if way == 0:
        del lines[first:end]
    elif way == 1:
        lines[second:second] = lines[first:end]
    elif way == 2:
        lines[first], lines[second] = lines[second], lines[first]
    else:
        lines[first:first] = chance.choice(WORDS).split() * chance.choice([1, 3, 2500])
    return "\n".join(lines)


def change_bytes(chance: random.Random, content: bytes) -> bytes:
    if not content:
        return chance.randbytes(20)
    changed = bytearray(content)
    way = chance.randrange(5)
    place = chance.randrange(len(changed))
    if way == 0:
        for _ in range(chance.choice([1, 1, 10, 100])):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    elif way == 1:
        del changed[place:]
    elif way == 2:
        changed[place:place] = chance.randbytes(chance.choice([1, 4, 1000]))
    elif way == 3:
        del changed[place : place + chance.choice([1, 4, 1000])]
    else:
        changed[place : place + 4] = chance.choice([b"\0" * 4, b"\xff" * 4, b"<htm", b"\n[[="])
    return bytes(changed)


def damaged_cfg(chance: random.Random, texts: list[str]) -> bytes:
    if chance.random() < 0.03:
        return chance.randbytes(chance.choice([0, 1, 100, 1_000_001]))
    text = chance.choices(texts, [8] + [1] * (len(texts) - 1))[0]
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        change = chance.choice([replace_number] * 4 + [replace_word, change_lines])
        text = change(chance, text)
    content = text.encode()
    return change_bytes(chance, content) if chance.random() < 0.2 else content


def damaged_weights(chance: random.Random, content: bytes) -> bytes:
    if chance.random() < 0.05:
        return chance.randbytes(chance.choice([0, 16, 20, len(content)]))
    if chance.random() < 0.4:  # the header
        place = chance.randrange(20)
        return content[:place] + chance.randbytes(1) + content[place + 1 :]
    for _ in range(chance.choice([1, 1, 3])):
        content = change_bytes(chance, content)
    return content


def run_small(path: Path) -> None:
    """Build a network in earnest and run it, if it is small."""
    import torch

    from boxes import decode
    from darknet.network import Darknet
    from speed.fast import FastDarknet

    with torch.device("meta"):
        network = Darknet(path)
    network.summary()
    values = sum(c * h * w for c, h, w in (layer.out_shape for layer in network.layers))
    reach = max(c * h * w for c, h, w in (layer.in_shape for layer in network.layers))
    weights = sum(layer.parameters for layer in network.layers)
    if weights > MOST_WEIGHTS or max(values, reach) > MOST_VALUES or len(network.layers) > 100:
        return
    network = Darknet(path).eval()
    net = network.blocks[0]
    images = torch.zeros(1, net.channels, net.height, net.width)
    expected = [(1, *layer.out_shape) for layer in network.layers if layer.kind == "yolo"]
    with torch.inference_mode():
        for outputs in (
            network(images),
            FastDarknet(network)(images),
        ):
            assert [tuple(out.shape) for out in outputs] == expected
            for raw, block in zip(outputs, network.outputs, strict=True):
                decode(raw, block, (net.height, net.width))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lesson", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.path.insert(0, str(options.lesson))
    import torch

    from darknet.network import Darknet, DarknetFileError

    torch.set_num_threads(1)
    chance = random.Random(options.seed)
    cfg_path, weights_path = options.work / "x.cfg", options.work / "x.weights"
    cfg_path.write_text(SMALL)
    small = Darknet(cfg_path).eval()
    run_small(cfg_path)  # PyTorch loads parts of itself at the first use
    small.save_weights(weights_path)
    good = weights_path.read_bytes()
    texts = [SMALL] + [
        path.read_text() for path in sorted((options.lesson / "darknet/networks").glob("*.cfg"))
    ]
    before = peak_bytes()
    limit_memory(10**9)
    result = {"loaded": 0, "refused": 0, "wrong": [], "slowest": [0.0, None, ""], "kinds": {}}
    for number in range(options.count):
        is_cfg = chance.random() < 0.7
        path = cfg_path if is_cfg else weights_path
        path.write_bytes(damaged_cfg(chance, texts) if is_cfg else damaged_weights(chance, good))
        start = time.process_time()
        try:
            run_small(path) if is_cfg else small.load_weights(path, chance.random() < 0.3)
            result["loaded"] += 1
            kind = f"loaded {path.suffix}"
        except DarknetFileError as error:
            result["refused"] += 1
            if not (str(error).startswith(str(path)) and PLACE.search(str(error))):
                result["wrong"].append([number, f"no place: {error}"])
            kind = re.sub(r"'.*?'|[\d,.]+", "_", str(error).removeprefix(str(path)))[:70]
        except Exception as error:
            copy = options.work / f"{number}{path.suffix}"
            copy.write_bytes(path.read_bytes())
            result["wrong"].append([number, f"{copy}: {type(error).__name__}: {error}"[:500]])
            kind = "wrong"
        result["kinds"][kind] = result["kinds"].get(kind, 0) + 1
        result["slowest"] = max(result["slowest"], [time.process_time() - start, number, kind])
    result["grown"] = peak_bytes() - before
    print(json.dumps(result))


if __name__ == "__main__":
    main()
