"""Two programs that run an ONNX graph on a CPU, each with as many threads as PyTorch has.

Both take images, float32 (B, 3, H, W), and give the graph's outputs, float32.
"""

import numpy as np
import torch
from torch import Tensor


class OnnxruntimeNetwork:
    """An ONNX graph in onnxruntime."""

    def __init__(self, content: bytes):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Its threads would go on spinning, on a core that PyTorch needs for what comes next.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(content, options, providers=providers)

    def __call__(self, images: Tensor) -> list[Tensor]:
        found = self.session.run(None, {"images": images.contiguous().numpy()})
        return [torch.from_numpy(one) for one in found]


class OpenVinoNetwork:
    """An ONNX graph in OpenVINO, compiled for each batch size that occurs.

    Args:
        content: of the ONNX file.
        precision: f32 or bf16, of what is not of eight bits already. OpenVINO's own choice is bf16
            where the processor has it.
    """

    def __init__(self, content: bytes, precision: str):
        import openvino

        self.core = openvino.Core()
        self.model = self.core.read_model(content)
        self.options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
        }
        self.compiled = {}

    def __call__(self, images: Tensor) -> list[Tensor]:
        shape = tuple(images.shape)
        if shape not in self.compiled:
            self.model.reshape(shape)
            self.compiled[shape] = self.core.compile_model(self.model, "CPU", self.options)
        found = self.compiled[shape](images.contiguous().numpy())
        # Copies: OpenVINO writes the next outputs into the same memory.
        return [torch.from_numpy(np.array(one)) for one in found.values()]
