"""Training of a Keras model on labelled images: Keras's `fit`, epoch by epoch, so that it can be interrupted."""
