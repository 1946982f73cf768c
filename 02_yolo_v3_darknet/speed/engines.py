"""Which programs can compute a network, in which precision, and what they need.

- **torch**: the network itself, its batch norm folded (`speed/fast.py`).
- **onnxruntime** (https://onnxruntime.ai): reads the network as an ONNX graph.
- **openvino** (https://docs.openvino.ai): reads the same graph; the package is optional.

int8 is the graph with weights and maps of eight bits (`speed/quantize.py`).
"""

import platform
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from common.precision import choose_precision
from darknet.network import Darknet

ENGINES = ("torch", "onnxruntime", "openvino")
PRECISIONS = {  # of each engine; auto is fp16 on a CUDA GPU, else fp32
    "torch": ("auto", "fp32", "fp16", "bf16"),
    "onnxruntime": ("auto", "fp32", "int8"),
    "openvino": ("auto", "fp32", "bf16", "int8"),
}
PACKAGES = {"torch": (), "onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}

Computed = Callable[[Tensor], list[Tensor]]  # images to raw outputs, see `Darknet.forward`


def build_network(
    model: Darknet,
    engine: str,
    input_size: tuple[int, int],
    precision: str = "fp32",
    device: str | torch.device = "cpu",
    compiled: bool = False,
    calibration: Sequence[Tensor] = (),
) -> Computed:
    """Make what computes a network's raw outputs.

    Args:
        model: the network, with its weights; it is not changed.
        engine: one of `ENGINES`.
        input_size: (height, width) of the images in pixels; torch takes others too.
        precision: of the arithmetic, one of `PRECISIONS`.
        device: where to run; engines other than torch run on the CPU.
        compiled: through `torch.compile`, for torch alone.
        calibration: for int8, images (1, 3, height, width) of the kind that will be seen.

    Raises:
        ValueError: see `check_engine`; or no images to calibrate with.
    """
    check_engine(engine, precision, device, compiled)
    # Each engine is imported only when it is asked for: it loads much, or may not be there.
    if engine == "torch":
        from speed.fast import FastDarknet

        return FastDarknet(model, precision, device, compiled)
    from speed.onnx_file import raw_onnx
    from speed.runtimes import OnnxruntimeNetwork, OpenVinoNetwork

    content = raw_onnx(model, input_size)
    if precision == "int8":
        from speed.quantize import quantize

        content = quantize(content, calibration)
    if engine == "onnxruntime":
        return OnnxruntimeNetwork(content)
    return OpenVinoNetwork(content, "bf16" if precision == "bf16" else "f32")


def check_engine(
    engine: str, precision: str, device: str | torch.device = "cpu", compiled: bool = False
) -> None:
    """Refuse what an engine, its package or this processor lacks.

    Raises:
        ValueError: which says what is lacking, and what is there.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}; allowed are {', '.join(ENGINES)}")
    if precision not in PRECISIONS[engine]:
        known = ", ".join(PRECISIONS[engine])
        raise ValueError(f"engine {engine} has no precision {precision!r}; it has {known}")
    device = torch.device(device)
    if engine == "torch":
        choose_precision(precision, device)
    elif device.type != "cpu" or compiled:
        what = "torch.compile" if compiled else f"device {device}"
        raise ValueError(f"engine {engine} runs on the CPU alone, without {what}; torch has it")
    needed = (*PACKAGES[engine], *(("onnxruntime",) if precision == "int8" else ()))
    for package in needed:
        if find_spec(package) is None:
            raise ValueError(
                f"engine {engine} needs the package {package}, which is not installed: "
                f"pip install {package}"
            )
    if device.type == "cpu" and precision == "bf16" and not has_bfloat16_instructions():
        raise ValueError("precision bf16: this processor has no instructions for it; use fp32")
    if precision == "int8" and not has_int8_instructions():
        raise ValueError(
            "precision int8: this processor has no instructions for it (VNNI, AMX); use fp32"
        )


def _has(name: str) -> bool:
    """Ask PyTorch for a feature of this CPU; not all releases know all of them."""
    question = getattr(torch.cpu, name, None)
    return bool(question and question())


def has_bfloat16_instructions() -> bool:
    """Tell whether this CPU computes bfloat16 natively; emulated it is many times slower."""
    arm = getattr(torch.backends.cpu, "get_cpu_capability", str)() in {"SVE256", "SVE"}
    return _has("_is_avx512_bf16_supported") or _has("_is_amx_tile_supported") or arm


def has_int8_instructions() -> bool:
    """Tell whether this CPU multiplies and adds four bytes at once: VNNI, AMX, or ARM's own.

    Without, int8 is slower than float32, and sums of two products overflow their 16 bits.
    """
    arm = platform.machine().lower() in {"arm64", "aarch64"}
    return _has("_is_vnni_supported") or _has("_is_amx_tile_supported") or arm
