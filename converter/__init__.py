"""cnnexport: Keras CNNs to ONNX, TFLite and SavedModel, each artifact proven against Keras's predictions."""
