"""Segmenters as ONNX graphs, written node by node: photo bytes in, labels and probabilities out."""
