"""Configurations of older Keras versions made fit for Keras 3: `repair` is the whole of it, beside it each kind."""
