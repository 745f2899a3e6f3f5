"""Classification with artifacts: the classes of images, and their accuracy on labelled ones; in every runtime.

Nothing here needs TensorFlow, but for a SavedModel.
"""
