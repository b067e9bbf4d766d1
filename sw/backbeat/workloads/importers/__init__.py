"""Workloads from elsewhere: a table of layers, a PyTorch module, an ONNX file."""
