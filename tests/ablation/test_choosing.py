import numpy as np
import pytest
import torch

from faultline.ablation.choosing import choose, expected_changes, margins


def by_rank(n):
    return expected_changes({"clean": np.arange(n, dtype=float)})


def test_margins_by_hand():
    logits = torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0], [float("nan"), 0.0, 0.0]])
    found = margins(logits, torch.tensor([1, 0, 1]))
    assert found[:2].tolist() == [2.0, 3.0]
    assert found[2] == np.inf  # such an image is wrong whatever is removed


def test_expected_changes_go_by_the_rank_in_every_image_set():
    found = expected_changes({"clean": np.array([3.0, 1.0, 2.0]), "fgsm": np.array([9.0, 8.0, 0])})
    # ranks 2, 0, 1 and 2, 1, 0 of three, at their middle
    expected = [(6 / 5 + 6 / 5) / 2, (6 + 2) / 2, (2 + 6) / 2]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("n", [100, 300, 1250, 5000, 9999])
def test_every_stratum_has_its_floor_and_weights_say_what_images_stand_for(n):
    index, strata = choose(by_rank(10_000), n, seed=0)
    assert len(index) == n == len(set(index)) and (np.diff(index) > 0).all()
    assert strata.total == 10_000 and strata.drawn.sum() == n
    least = n // len(strata.sizes)
    assert (strata.drawn >= np.minimum(strata.sizes, least)).all() and least >= 20
    assert strata.weights.sum() == pytest.approx(1)
    assert strata.weights.max() < 2.1 / n  # where changes are anywhere, little is lost
    # of the images nearest to a boundary more are drawn
    assert np.mean(index < 1000) > min(2.4 * n / 10_000, 0.99) * 1000 / n
    assert (np.diff(strata.stratum[np.argsort(index)]) >= 0).all()


def test_all_images_are_drawn_where_there_are_no_more():
    index, strata = choose(by_rank(150), 200, seed=0)
    assert index.tolist() == [*range(150)]
    assert strata.weights == pytest.approx(np.full(150, 1 / 150))


def test_a_choice_is_that_of_its_seed():
    one, same, other = (choose(by_rank(2000), 200, seed=seed).index for seed in (3, 3, 4))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_samples_are_without_bias():
    # every image is drawn as often as its weight says
    times, weight = np.zeros(300), np.zeros(300)
    for seed in range(2000):
        index, strata = choose(by_rank(300), 100, seed=seed)
        times[index] += 1
        weight[index] += strata.weights
    assert weight / 2000 == pytest.approx(np.full(300, 1 / 300), rel=0.25)
    assert times.min() > 0
