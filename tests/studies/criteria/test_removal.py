from torch import nn

from faultline.studies.criteria.removal import WHOLE, removal_variants


def removed(most=None, *, name="conv1"):
    found = list(removal_variants(name, nn.Conv2d(1, 12, 3), most=most))
    return [variant.columns["filter"] for variant in found]


def test_a_layer_is_removed_whole_and_then_filter_by_filter():
    assert removed() == removed(most=12) == [WHOLE, *range(12)]


def test_of_many_filters_some_are_drawn_the_same_each_time():
    first, *some = removed(most=5)
    assert first == WHOLE and len({*some}) == 5 and some == sorted(some)
    assert removed(most=5) == [first, *some] != removed(most=5, name="conv2")
