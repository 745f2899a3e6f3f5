"""What several runtimes need: what is installed, names paired strictly, the content of an ONNX file, the GPU."""
