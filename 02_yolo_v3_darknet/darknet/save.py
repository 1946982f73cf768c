"""Write a trained network as a Darknet model: a .cfg, a .weights and a .names file.

Batch normalisation is where the programs differ. In inference all of them use the rolling mean and
variance of the file, but not the same formula, see `portable`. In training Darknet updates both
by 1 % a step, from a batch's variance divided by N - 1; PyTorch by 10 % from the same variance,
and it normalises by the variance divided by N. That changes what is learnt a little, and nothing
about the file: a rolling variance is a variance to every program. So training keeps PyTorch's
fast kernel, and its 10 % suit a training of some hundred steps, after which 1 % would still be a
mixture with the first values (0.99 ** 250 is 0.08). On drawn rectangles and 250 steps from random
weights, AP was 0.305 with 10 %, 0.304 with 3 % and 0.268 with 1 % (two seeds, box weight 2).
"""

import copy
from pathlib import Path

import torch

from common.files import replacing
from darknet.network import BATCH_NORM_EPSILON, Darknet

SAFE_VARIANCE = 1.0  # from here on, where the epsilon stands moves a scale by less than 1e-6


@torch.no_grad()
def portable(model: Darknet) -> Darknet:
    """A copy in evaluation mode that Darknet and OpenCV compute alike.

    Darknet divides by sqrt(variance) + 1e-6, OpenCV's importer by sqrt(variance + 1e-6), PyTorch in
    training by the latter too. Where a channel's variance is small, as in one that training has
    let die, these are not the same: at 1e-6 they differ by 1.4 times. Here each variance below 1
    is set to 1 and the channel's scale to what gives the same result by Darknet's formula.

    To go on training from such a file is possible but not the same: training normalises by the
    batch, to which the new scales do not belong. Keep the checkpoint for that.
    """
    model = copy.deepcopy(model).eval()
    for stage in model.stages:
        norm = getattr(stage, "norm", None)
        if norm is not None:
            safe = norm.running_var.clamp(min=SAFE_VARIANCE)
            before = norm.running_var.sqrt() + BATCH_NORM_EPSILON
            norm.weight *= (safe.sqrt() + BATCH_NORM_EPSILON) / before
            norm.running_var.copy_(safe)
    return model


def save_darknet(model: Darknet, names: list[str], folder: str | Path, stem: str = "model") -> None:
    """Write `stem`.cfg, `stem`.weights and `stem`.names, which together are a Darknet model.

    `detect.py`, Darknet and OpenCV 4's importer read them; see `portable` for the batch norm. The
    cfg is the network's own, with `batch=1` and `subdivisions=1` as detecting needs them.

    Args:
        model: the network; it is not changed.
        names: the class names.
        folder: where to write; made if it is not there.

    Raises:
        ValueError: another number of names than classes, or a name that is empty or has line ends.
        OSError: the folder cannot be written to.
    """
    classes = model.outputs[0].classes
    if len(names) != classes:
        raise ValueError(f"names must be {classes}, one for each class, got {len(names)}")
    for name in names:
        if name != name.strip() or len(name.splitlines()) != 1:
            raise ValueError(f"a class name must be one line without blanks around, got {name!r}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = model.cfg_path.read_text(encoding="utf-8-sig")
    for path, content in (
        (folder / f"{stem}.cfg", for_one_photo(text)),
        (folder / f"{stem}.names", "".join(f"{name}\n" for name in names)),
    ):
        with replacing(path) as file:
            file.write(content.encode())
    portable(model).save_weights(folder / f"{stem}.weights")


def for_one_photo(cfg_text: str) -> str:
    """The text of a cfg file with batch=1 and subdivisions=1, where it sets them."""
    keys = ("batch", "subdivisions")
    lines = cfg_text.splitlines()
    return "".join(
        f"{key}=1\n" if (key := line.partition("=")[0].strip()) in keys else f"{line}\n"
        for line in lines
    )
