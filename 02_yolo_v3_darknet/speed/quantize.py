"""An ONNX graph whose weights and maps have eight bits, made by onnxruntime's own quantiser.

A number r is kept as round(r / scale) + zero. Each output channel of the kernels has a scale of
its own; each map has one, from the least to the largest value that calibration pictures gave. See
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html, static quantisation.

The last convolutions stay in float32: their outputs are the logits of boxes and classes, and in one
scale for both, steps would be so coarse that boxes move.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor


class Pictures(CalibrationDataReader):
    """Hands out images (1, 3, H, W) one by one, as the quantiser asks for them."""

    def __init__(self, images: Sequence[Tensor]):
        self.images = iter(images)

    def get_next(self) -> dict | None:
        image = next(self.images, None)
        return None if image is None else {"images": image.contiguous().numpy()}


def quantize(content: bytes, images: Sequence[Tensor]) -> bytes:
    """Turn a float32 graph into one of eight bits.

    Args:
        content: of the ONNX file that `speed.onnx_file.raw_onnx` wrote.
        images: calibration pictures, float32 (1, 3, height, width) each, letterboxed.

    Raises:
        ValueError: no pictures.
    """
    if not images:
        raise ValueError("precision int8 needs photos to calibrate with")
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(onnx.load_from_string(content), str(plain), skip_symbolic_shape=True)
        graph = onnx.load(str(plain)).graph
        outputs = {value.name for value in graph.output}
        quantize_static(
            str(plain),
            str(small),
            Pictures(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in graph.node if outputs & set(node.output)],
        )
        return small.read_bytes()
