"""Write a trained network as an ONNX file, for onnxruntime and whatever else reads the format.

    python export.py --cfg cells.cfg --weights cells.weights --names cells.names --out cells.onnx
    python export.py --cfg cells.cfg --weights cells.weights --raw --size 416 --out cells.onnx

The ONNX model takes `images`, float32 (batch, 3, height, width), RGB in [0, 1], letterboxed (see
`boxes.Letterbox`); the batch is free, height and width are fixed. It returns

    boxes    float32 (batch, N, 4): x1, y1, x2, y2 in pixels of the input
    scores   float32 (batch, N, classes): objectness times class probability

before any suppression, or with --raw the maps of the outputs as the network gives them. The batch
norm is folded into the kernels. The file is checked before it is kept: onnxruntime must give what
PyTorch gives.

Exit code: 0 when the file was written and agrees, 2 when not.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from boxes import InputSize, cxcywh_to_xyxy, decode_fractions, height_width, parse_size
from common.command import Command
from common.files import replacing
from common.onnx_export import ExportError, to_onnx
from darknet.network import Darknet, DarknetFileError
from detector import read_names
from speed.fast import folded
from speed.onnx_file import RawDarknet

TOLERANCE = 1e-4  # largest difference from PyTorch, as a share of an output's range


class DecodedDarknet(RawDarknet):
    """A network whose outputs are boxes and scores."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) to boxes (B, N, 4), xyxy in input pixels, and scores (B, N, C).

        N counts output by output, anchor by anchor, row by row.
        """
        boxes_cxcywh, scores = [], []
        for raw, block in zip(super().forward(images), self.outputs, strict=True):
            cells = raw.unflatten(1, (len(block.mask), 5 + block.classes)).permute(0, 1, 3, 4, 2)
            boxes_cxcywh.append(decode_fractions(cells, block, self.input_size).flatten(1, 3))
            probabilities = cells[..., 4:].sigmoid()
            scores.append((probabilities[..., :1] * probabilities[..., 1:]).flatten(1, 3))
        height, width = self.input_size
        pixels = images.new_tensor((width, height, width, height))
        return cxcywh_to_xyxy(torch.cat(boxes_cxcywh, dim=1) * pixels), torch.cat(scores, dim=1)


def export_onnx(
    model: Darknet,
    path: str | Path,
    *,
    size: InputSize | None = None,
    raw: bool = False,
    names: list[str] | None = None,
) -> float:
    """Write a network as an ONNX file, after checking that onnxruntime computes the same.

    Args:
        model: the network; it is not changed.
        path: the file to make or replace.
        size: side of the square input in pixels, or (height, width); None: [net]'s own.
        raw: return the outputs' maps instead of boxes and scores.
        names: class names, stored in the file as the metadata `names`, a JSON list.

    Returns:
        The largest difference from PyTorch, as a share of the range of the output it is in.

    Raises:
        ValueError: a size that the network cannot take.
        ExportError: onnxruntime computes something else; nothing is written.
        OSError: the folder cannot be written to.
    """
    net = model.blocks[0]
    height, width = height_width((net.height, net.width) if size is None else size)
    random = torch.Generator().manual_seed(0)
    images = torch.rand(2, net.channels, height, width, generator=random)
    model.check_images(images)
    kind = RawDarknet if raw else DecodedDarknet
    network = kind(folded(model).cpu(), (height, width)).eval()
    outputs = [f"output_{i}" for i in range(len(model.outputs))] if raw else ["boxes", "scores"]
    content = to_onnx(network, images, outputs, names)
    difference = max(largest_difference(content, network, images[:count]) for count in (1, 2))
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{path}: onnxruntime differs from PyTorch by {difference:.2g} of the range, "
            f"{TOLERANCE:g} is allowed; the file was not written"
        )
    with replacing(Path(path)) as file:
        file.write(content)
    return difference


@torch.inference_mode()
def largest_difference(content: bytes, network: nn.Module, images: Tensor) -> float:
    """Run an ONNX model and the network it came from on the same images (B, 3, H, W).

    Returns:
        The largest difference, as a share of the range of the output it is in, a range below 1
        counting as 1 (scores of noise are all near 0); infinite where one is not a number.
    """
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    worst = 0.0
    for theirs, ours in zip(
        session.run(None, {"images": images.numpy()}), network(images), strict=True
    ):
        difference = np.abs(theirs - ours.numpy()).max() / max(np.ptp(ours.numpy()), 1.0)
        worst = max(worst, float(difference) if np.isfinite(difference) else np.inf)
    return worst


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Write a Darknet model as ONNX, checked with onnxruntime against PyTorch.",
        epilog="The result takes letterboxed RGB photos in [0, 1], any number at a time.",
    )
    add = parser.add_argument
    add("--cfg", required=True, metavar="FILE", help="the network")
    add("--weights", required=True, metavar="FILE", help="its weights")
    add("--names", metavar="FILE", help="its class names, stored in the ONNX file")
    add("--size", type=parse_size, metavar="N|HxW", help="input in pixels (default: the cfg's)")
    add("--raw", action="store_true", help="return the outputs' maps, not boxes and scores")
    add("--out", required=True, metavar="FILE", help="the ONNX file to write")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse_options(arguments)
    with Command("stopped; nothing was written") as command:
        model = Darknet(options.cfg)
        if not model.outputs:
            raise DarknetFileError(f"{options.cfg}: has no [yolo] block, it is no detector")
        names = read_names(options.names, model.outputs[0].classes) if options.names else None
        model.load_weights(options.weights)
        difference = export_onnx(
            model, options.out, size=options.size, raw=options.raw, names=names
        )
        print(f"{options.out}: differs from PyTorch by {difference:.1e} of the range")
    return command.exit_code


if __name__ == "__main__":
    sys.exit(main())
