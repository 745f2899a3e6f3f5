"""What several runtimes need: what is installed, what an ONNX file says of itself, the GPU and its libraries."""
