"""model -> Traced: one TensorFlow graph with Keras's names and folded arithmetic; and the reference, Keras's outputs.

What a format makes of the graph is in `converter.formats`, the comparison with the reference in `converter.proof`.
"""
