"""model -> Traced: one TensorFlow graph, its names, its folded arithmetic; and the reference, Keras's own outputs."""
