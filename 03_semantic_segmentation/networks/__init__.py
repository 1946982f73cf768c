"""The networks that the lesson can train, and a trained one as an ONNX file."""
