"""The U-Nets of `proof_speed.py`, as a source: `tests/benchmarks/proof_speed_models.py:unet`."""

from __future__ import annotations

from converter.core.foreign import KerasModel, KerasTensor

FILTERS = (8, 16, 48, 128, 224)


def unet() -> KerasModel:
    """Five levels of 10 x 10 kernels, nine million parameters, an image of 240 x 320 to an image; Keras's weights."""
    return _unet(240, 320)


def heavy_unet() -> KerasModel:
    """The same with four times the pixels, so that an inference takes four times as long."""
    return _unet(480, 640)


def three_maps() -> KerasModel:
    """A small network with three outputs of 240 x 320 x 21: its golden arrays are large beside everything else."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    image = keras.Input((240, 320, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(image)
    heads = [layers.Conv2D(21, 1, activation="softmax", name=f"map{number}")(x) for number in range(3)]
    return keras.Model(image, heads, name="three_maps")


def _unet(height: int, width: int) -> KerasModel:
    import keras
    from keras import layers

    def block(x: KerasTensor, filters: int, name: str) -> KerasTensor:
        return layers.Conv2D(filters, 10, padding="same", activation="relu", name=name)(x)

    keras.utils.set_random_seed(0)
    image = x = keras.Input((height, width, 3), name="image")
    levels = []
    for number, filters in enumerate(FILTERS[:-1], start=1):
        levels.append(block(x, filters, f"down{number}"))
        x = layers.MaxPooling2D(name=f"shrink{number}")(levels[-1])
    x = block(x, FILTERS[-1], "bottom")
    for number in range(len(levels), 0, -1):
        grown = layers.UpSampling2D(name=f"grow{number}")(x)
        x = block(
            layers.Concatenate(name=f"join{number}")([grown, levels[number - 1]]), FILTERS[number - 1], f"up{number}"
        )
    return keras.Model(image, layers.Conv2D(3, 10, padding="same", name="image_out")(x), name="unet")
