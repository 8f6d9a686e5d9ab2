"""Makes reference.npz: what the package imagecorruptions 1.1.2 makes of one small photograph.

    pip install --no-deps imagecorruptions==1.1.2 opencv-python-headless scikit-image imageio
    pip install --no-deps numba llvmlite lazy-loader tifffile
    python tests/stresses/make_reference.py

Its opencv needs libraries of a screen, so it is no requirement of the tests.
"""

from itertools import product
from pathlib import Path

import imagecorruptions.corruptions as reference
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

SEED = 3

KINDS = ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur")
KINDS += ("motion_blur", "zoom_blur", "snow", "fog", "brightness", "contrast")
KINDS += ("elastic_transform", "pixelate", "jpeg_compression")
KINDS += ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""All but frost, which is made of photographs there."""


def main() -> None:
    """Writes the image, and each corruption of it at each severity, as bytes."""
    photograph = Image.fromarray(load_sample_images().images[0]).resize((28, 24))
    # Numba's random numbers are not NumPy's
    shuffle = reference._shuffle_pixels_njit_glass_blur.py_func
    reference._shuffle_pixels_njit_glass_blur = shuffle
    made = {"image": np.asarray(photograph)}
    for kind, severity in product(KINDS, range(1, 6)):
        seeded = {"seed": SEED} if kind in ("glass_blur", "impulse_noise") else {}
        np.random.seed(SEED)  # noqa: NPY002
        made[f"{kind}_{severity}"] = np.uint8(
            getattr(reference, kind)(photograph, severity, **seeded)
        )
    np.savez_compressed(Path(__file__).with_name("reference.npz"), **made)


if __name__ == "__main__":
    main()
