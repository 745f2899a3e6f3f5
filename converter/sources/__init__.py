"""Where a model comes from: a zoo name, a file, `keras:Name`, `package.module:function`, or a `keras.Model` object.

`load(text, options)` decides which of them `text` means and returns a `Source`: a built model with finite weights.
Importing this package imports neither Keras, TensorFlow nor numpy.
"""

from __future__ import annotations

from converter.sources.choose import load, load_object
from converter.sources.names import kind_of, known_names, title_of, zoo_table
from converter.sources.opening import Opened, opened

__all__ = ["Opened", "kind_of", "known_names", "load", "load_object", "opened", "title_of", "zoo_table"]
