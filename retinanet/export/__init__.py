"""Detectors as files for ONNX Runtime and OpenVINO."""
