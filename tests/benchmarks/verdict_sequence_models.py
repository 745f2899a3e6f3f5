"""Recurrent networks for `verdicts.py`: those of the tests, and a few that only faults need."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
from keras import layers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sequence_models import crnn, drawn, tagger, translator, video_predictor

__all__ = ["crnn", "relu_gru", "stacked_cells", "tagger", "translator", "video_predictor"]


def relu_gru() -> keras.Model:
    """A bidirectional GRU with an activation of its own."""
    sequence = keras.Input((12, 6), name="sequence")
    outputs = layers.Bidirectional(layers.GRU(8, activation="relu", return_sequences=True))(sequence)
    return drawn(keras.Model(sequence, layers.Dense(4, name="tags")(outputs), name="relu_gru"))


def stacked_cells() -> keras.Model:
    """Cells of two kinds in one layer, which is a loop in every format."""
    sequence = keras.Input((20, 6), name="sequence")
    outputs = layers.RNN([layers.LSTMCell(6), layers.GRUCell(5)], return_sequences=True)(sequence)
    return drawn(keras.Model(sequence, layers.Dense(4, name="tags")(outputs), name="stacked_cells"))
