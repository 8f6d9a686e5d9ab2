import copy

import pytest
from trainings import assert_same_bits, dataset_of, network_of, settings_of, trained

from faultline.training.checkpoints import checkpoint
from faultline.training.segments import train_segment
from faultline.training.unfinished import Unfinished

SETTINGS = settings_of(adversarial=None, regularisation=None)
OWN = {"function": "mine.py:net", "code": "abc"}


@pytest.fixture
def segment(tmp_path):
    """Trains to an epoch, from a checkpoint before it or from the start, with seed 3."""

    def segment(last, previous=None, own=None):
        unfinished = Unfinished(tmp_path / "checkpoint.pt", [last], files=[])
        return train_segment(
            *(network_of(), dataset_of()),
            **{"settings": SETTINGS, "seed": 3, "last": last, "previous": previous},
            **{"regularised": None, "own": own, "unfinished": unfinished},
        )

    return segment


def test_a_chain_of_segments_is_one_training(segment):
    network, optimizer, rows = trained(range(3), settings=SETTINGS, seed=3)
    expected = checkpoint(network, optimizer, epoch=3, seed=3, history=rows)
    first = copy.deepcopy(segment(1, own=OWN))
    assert first["epoch"] == 1 and first["own"] == OWN and len(first["history"]) == 1
    last = segment(3, previous=first)
    assert [*last] == [*expected]
    assert_same_bits(last | {"network": dict(last["network"])},
                     expected | {"network": dict(expected["network"])})  # fmt: skip
    begun = segment(0)
    assert begun["epoch"] == 0 and begun["history"] == []
    assert_same_bits(dict(begun["network"]), dict(network_of().state_dict()))


def test_one_that_was_interrupted_goes_on_after_its_last_whole_epoch(segment, capsys):
    whole = copy.deepcopy(segment(3))
    capsys.readouterr()
    again = segment(3)
    said = capsys.readouterr().out
    assert "resuming after epoch 2\n" in said and "epoch 3/3" in said and "epoch 2/3" not in said
    assert_same_bits(dict(again["network"]), dict(whole["network"]))
    assert_same_bits(again["history"], whole["history"])
