"""Pictures say what the pixels are."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from faultline.studies.examples.pictures import differences, fitting, picture, reduced


def pixels(source: str) -> np.ndarray:
    _, _, data = source.partition("base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_pixels_are_cut_to_the_range_and_rounded():
    image = torch.tensor([[-0.5, 0.0, 0.5], [1.0, 2.0, 0.1]])[None]
    assert picture(image).startswith("data:image/png;base64,")
    assert pixels(picture(image)).tolist() == [[0, 0, 128], [255, 255, 26]]


def test_three_channels_are_colours_and_others_are_averaged():
    image = torch.tensor([1.0, 0.2, 0.0]).reshape(3, 1, 1)
    assert pixels(picture(image)).tolist() == [[[255, 51, 0]]]
    assert pixels(picture(image[:2])).tolist() == [[153]]


def test_a_change_of_nothing_is_grey_and_the_largest_is_black_or_white():
    changes = torch.tensor([[0.0, 0.1, -0.1], [0.05, 0.0, -0.05]]).reshape(2, 1, 1, 3)
    (one, other), factor = differences(changes)
    assert factor == pytest.approx(10)
    assert pixels(one).tolist() == [[128, 255, 0]]
    assert pixels(other).tolist() == [[191, 128, 64]]
    (grey,), factor = differences(torch.zeros(1, 1, 2, 2))
    assert factor == 1 and (pixels(grey) == 128).all()


def test_large_images_are_averaged_down_and_stay_close():
    image = torch.arange(128.0).repeat(1, 1, 64, 1) / 127
    small = reduced(image)
    assert small.shape == (1, 1, 32, 64)
    assert torch.allclose(small[0, 0, 0], (image[0, 0, 0, ::2] + image[0, 0, 0, 1::2]) / 2)
    assert torch.equal(reduced(small), small)
    assert picture(small[0]).startswith("data:image/jpeg")
    assert abs(pixels(picture(small[0])) - 255 * small[0, 0].numpy()).max() < 4
    assert picture(small[0], exact=True).startswith("data:image/png")


def test_as_many_fit_as_there_is_room_for():
    assert fitting([3, 4, 5], 7) == 2 and fitting([3, 4, 5], 12) == 3
    assert fitting([9, 1], 7) == 1
