"""Images, labels and preprocessing: from files to the input of a model, without TensorFlow; numpy and Pillow only."""
