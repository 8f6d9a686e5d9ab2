"""What is trained where a criterion picks, by hand and against naive computations."""

import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import trainings as made
from run_tables import make_config
from torch import nn

from faultline.ablation.facts import counted
from faultline.base.errors import UserError
from faultline.networks.layers import layers as layers_of
from faultline.networks.registry import build
from faultline.studies.criteria.names import shift_of
from faultline.studies.criteria.picked import (
    matched_order,
    mean_depth,
    order_of,
    picked,
    random_order,
    settings_of,
    taken,
    train_picked,
)
from faultline.studies.criteria.shifted import shifted
from faultline.training.checkpoints import checkpoint
from faultline.training.epochs import make_optimizer, train_epochs
from faultline.training.further import train_further


@pytest.fixture
def layers():
    """Of 4 x 3 = 12, 3 x (4 + 1) = 15 and 2 x (3 + 1) = 8 parameters, 35 in all."""
    return {"a": nn.Linear(3, 4, bias=False), "b": nn.Linear(4, 3), "c": nn.Linear(3, 2)}


def scored(layers: dict[str, float], **filters) -> pd.DataFrame:
    rows = [(name, None, score) for name, score in layers.items()]
    rows += [(name, i, score) for name, own in filters.items() for i, score in enumerate(own)]
    table = pd.DataFrame(rows, columns=["layer", "filter", "score"])
    return table.astype({"filter": "Int64"})


def listed(masks):
    return {name: mask.flatten().int().tolist() for name, mask in masks.items()}


def count(masks) -> int:
    return sum(int(mask.sum()) for mask in masks.values())


def test_the_highest_layers_whole_and_of_the_next_its_highest_filters(layers):
    table = scored({"a": 1.0, "b": 2.0, "c": 3.0}, b=[0.5, 0.9, 0.7], a=[1, 2, 3, 4])
    order = order_of(layers, table, lowest=False, seed=0)
    assert {name: units.tolist() for name, units in order.items()} == {
        "c": order["c"].tolist(),  # its filters have no scores
        "b": [1, 2, 0],
        "a": [3, 2, 1, 0],
    }
    assert list(order) == ["c", "b", "a"] and sorted(order["c"]) == [0, 1]
    # 0.5 of 35 is 18 (17.5 to the even): c whole (8), 10 left: b's filters 1 and 2 (5 each)
    masks = picked(layers, order, share=0.5)
    assert listed(masks) == {
        "a.weight": [0] * 12,
        "b.weight": [*[0] * 4, *[1] * 8],
        "b.bias": [0, 1, 1],
        "c.weight": [1] * 6,
        "c.bias": [1] * 2,
    }
    # 0.3 of 35 is 10: after c 2 are left, and no filter of b is nearer than one of 5
    assert count(picked(layers, order, share=0.3)) == 8


def test_the_lowest_and_what_is_not_scored(layers):
    table = scored({"b": 2.0, "a": 1.0}, a=[1, 2, 3, 4])
    order = order_of(layers, table, lowest=True, seed=0)
    assert list(order) == ["a", "b", "c"] and order["a"].tolist() == [0, 1, 2, 3]
    assert list(order_of(layers, table, lowest=False, seed=0)) == ["b", "a", "c"]
    masks = picked(layers, order, share=6 / 35)
    assert listed(masks)["a.weight"] == [*[1] * 6, *[0] * 6]  # two of its filters
    equals = order_of(layers, scored(dict.fromkeys("bca", 1.0)), lowest=True, seed=0)
    assert list(equals) == ["a", "b", "c"]  # the first of the network


@pytest.mark.parametrize("network", ["small_conv", "small_resnet", "small_vit"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_each_picks_as_many_parameters_to_half_a_filter(network, share):
    of = {"shape": (1, 28, 28), "classes": 10, "mean": (0.5,), "std": (0.3,)}
    layers = layers_of(build(network, **of, seed=0))
    sizes = {name: sum(p.numel() for p in layer.parameters()) for name, layer in layers.items()}
    every = sum(sizes.values())
    for draw in range(4):
        order = random_order(layers, [*layers], seed=0, draw=draw)
        masks = picked(layers, order, share=share)
        assert sum(mask.numel() for mask in masks.values()) == every
        taken = dict.fromkeys(layers, 0)
        for path, mask in masks.items():
            name = next(name for name in layers if path.startswith(f"{name}."))
            taken[name] += int(mask.sum())
        # whole layers first, then one in part, then none
        count = next(i for i, name in enumerate(order) if taken[name] < sizes[name])
        partial, *rest = [*order][count:]
        assert not any(taken[name] for name in rest)
        filters = len(order[partial])
        near = abs(sum(taken.values()) - round(share * every)) <= sizes[partial] / filters / 2 + 1
        assert (
            near or taken[partial] + 48 >= sizes[partial]
        )  # an attention's last bias is no head's


def test_draws_differ_and_come_from_seed_and_number(layers):
    orders = [random_order(layers, ["a", "b"], seed=0, draw=draw) for draw in range(20)]
    assert {tuple(order) for order in orders} == {("a", "b", "c"), ("b", "a", "c")}
    again = random_order(layers, ["a", "b"], seed=0, draw=3)
    assert list(again) == list(orders[3])
    assert all(np.array_equal(again[name], orders[3][name]) for name in again)
    others = [random_order(layers, ["a", "b"], seed=1, draw=draw) for draw in range(20)]
    assert [list(order) for order in others] != [list(order) for order in orders]


def test_what_is_taken_and_how_deep_it_lies(layers):
    sizes = {"a": 12, "b": 15, "c": 8}
    assert taken(sizes, ["c", "b", "a"], share=0.5).tolist() == [0, 9.5, 8]
    assert mean_depth([0, 9.5, 8]) == pytest.approx((0.5 * 9.5 + 8) / 17.5)
    assert mean_depth([3, 0, 0]) == 0 and mean_depth([0, 0, 7]) == 1 and mean_depth([4]) == 0
    assert np.isnan(mean_depth([0, 0, 0]))


def test_the_second_control_lies_as_deep_and_elsewhere():
    layers = {str(i): nn.Linear(4, 4, bias=False) for i in range(5)}  # 16 parameters each
    sizes = dict.fromkeys(layers, 16)

    def lies(pick: dict, draw=0, seed=0) -> list[str]:
        order = order_of(layers, scored(pick), lowest=False, seed=0)
        given = {"share": 0.4, "seed": seed, "draw": draw}
        found = matched_order(layers, [*layers], order, **given)
        counts = taken(sizes, found, share=0.4)
        assert counts.sum() == 32
        return [name for name, n in zip(layers, counts, strict=True) if n]

    # two of five layers, 10 pairs: as deep as 0 and 4 lies 1 and 3 alone
    assert lies({"0": 2.0, "4": 1.0}) == ["1", "3"] == lies({"0": 2.0, "4": 1.0}, seed=5)
    # no other pair lies as deep as 0 and 1; of those with half in common the nearest, then others
    first, *others = (lies({"0": 2.0, "1": 1.0}, draw) for draw in range(3))
    assert first == ["0", "2"] and sorted(others) == [["0", "3"], ["1", "2"]]


def test_a_parameter_that_layers_share_is_the_first_ones():
    embed, head = nn.Embedding(5, 4), nn.Linear(4, 5)
    head.weight = embed.weight
    layers = {"embed": embed, "head": head}
    order = order_of(layers, scored({"embed": 1.0, "head": 2.0}), lowest=False, seed=0)
    masks = picked(layers, order, share=0.5)  # of 25: the head's bias, 5; then 2 columns of 5 each
    assert set(masks) == {"embed.weight", "head.bias"}
    assert masks["head.bias"].all() and count(masks) in (10, 15)
    assert set(masks["embed.weight"].sum(0).tolist()) == {0, 5}


# Training


def trained(network, masks, *, epochs=2):
    """After training where masks say; the images are noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(20, 1, 8, 8, generator=generator)
    labels = torch.randint(4, (20,), generator=generator)
    splits = {"train": (images, labels), "validation": (images, labels)}
    dataset = SimpleNamespace(splits=splits, pixels=lambda x: x, bounds=(0.0, 1.0))
    settings = {"optimizer": "adam", "lr": 0.1, "weight_decay": 0.1, "batch_size": 10}
    settings |= {"schedule": {"kind": "constant"}, "augmentation": {"shift": 0, "flip": False}}
    settings |= {"recipe": "standard", "adversarial": None, "regularisation": None}
    settings = settings_of(settings, recipe="at-pgd", attack={"eps": 0.1})
    optimizer = make_optimizer(network, settings)
    run = {"settings": settings, "seed": 0, "epochs": range(epochs), "say": lambda _: None}
    frozen = {name: ~mask for name, mask in masks.items()}
    list(train_epochs(network, optimizer, dataset, frozen=frozen, **run))


def test_what_is_not_picked_keeps_its_bits_and_normalisations_are_trained():
    of = {"shape": (1, 8, 8), "classes": 4, "mean": (0.5,), "std": (0.3,)}
    network = build("small_resnet", **of, seed=0)
    layers = layers_of(network)
    masks = picked(layers, random_order(layers, [*layers], seed=0, draw=0), share=0.2)
    before = copy.deepcopy(network.body.state_dict())
    trained(network, masks)
    for name, value in network.body.state_dict().items():
        changed = value != before[name]
        if name in masks:
            assert not changed[~masks[name]].any(), name
            assert changed[masks[name]].any() or not masks[name].any(), name
        else:  # of normalisations: weights, biases, and what they have seen
            assert changed.any(), name


def test_the_recipe_replaces_the_trainings_own():
    own = {"eps": 0.3, "norm": "l2", "steps": 3, "step_size": None, "beta": 6}
    training = {"recipe": "at-trades-lr", "adversarial": own, "regularisation": {}, "lr": 0.1}
    found = settings_of(training, recipe="at-pgd", attack={"eps": 0.1})
    assert found == training | {"recipe": "at-pgd", "regularisation": None}
    found = settings_of(training | {"adversarial": None}, recipe="at-pgd", attack={"eps": 0.1})
    assert found["adversarial"]["eps"] == 0.1 and found["adversarial"]["norm"] == "linf"
    assert training["recipe"] == "at-trades-lr"


FGSM = {"method": "fgsm", "norm": "linf", "eps": 0.05, "normalised_units": False}
PGD = {"method": "pgd", "norm": "linf", "eps": 0.1, "steps": 2, "normalised_units": False}


@pytest.mark.parametrize(
    ("criterion", "recipe"),
    [(name, "standard") for name in ("none", "full", "random-1")] + [("fisher", "at-pgd")],
)
def test_picks_are_trained_and_judged_on_test_images(criterion, recipe):
    training = made.settings_of(adversarial=None, regularisation={"layers": "mvl"}, lr=0.1)
    dataset = made.dataset_of(validation=30, test=23)
    network, optimizer, _ = made.trained(range(1), settings=training, seed=3, dataset=dataset)
    state = copy.deepcopy(checkpoint(network, optimizer, epoch=1, seed=3))
    layers = layers_of(network)  # of 76 and 195 parameters
    table = scored({"0": 1.0, "5": 2.0}).assign(criterion="fisher")
    other = scored({"0": 2.0, "5": 1.0}).assign(criterion="clat")
    masks = {}
    if criterion == "fisher":  # the lowest
        masks = picked(layers, order_of(layers, table, lowest=True, seed=3), share=0.5)
        assert masks["0.weight"].all() and masks["0.bias"].all() and 76 < count(masks) < 271
    if criterion == "random-1":
        masks = picked(layers, random_order(layers, ["5"], seed=3, draw=1), share=0.5)
    further = train_further(
        *(made.network_of(), dataset, copy.deepcopy(state)),
        settings=settings_of(training, recipe=recipe, attack=FGSM),
        epochs=0 if criterion == "none" else 2,
        attacks={"p": PGD},
        frozen={name: ~mask for name, mask in masks.items()},
        **{"shares": [0.5, 1], "chosen_under": {"f": FGSM}, "chosen_on": 17},
    )
    network = made.network_of(seed=8)
    found = train_picked(
        *(network, dataset, copy.deepcopy(state)),
        **{"pick": criterion, "criterion": "fisher", "lowest": True},
        **{"share": 0.5, "training": training},
        scores=pd.concat([other, table]) if criterion == "fisher" else None,
        scored=["5", "head.of.another"],
        **{"recipe": recipe, "epochs": 2, "interpolations": [0.5, 1], "attack": {"f": FGSM}},
        **{"images": 17, "attacks": {"p": PGD}, "images_are": "here"},
    )
    made.assert_same_bits(dict(network.state_dict()), dict(further.checkpoint["network"]))
    assert [*found.correct] == ["here", "p"] and len(found.correct["p"]) == 23
    expected = dict(zip(found.correct, further.correct.values(), strict=True))
    assert all(np.array_equal(found.correct[k], hits) for k, hits in expected.items())
    trained = {"none": 0, "full": 271}.get(criterion, count(masks))
    behind = count({name: mask for name, mask in masks.items() if name.startswith("5.")})
    depth = {"none": np.nan, "full": 195 / 271}.get(criterion, behind / max(trained, 1))
    columns = {"trained": trained, "trainable": 271, "depth": depth, "moved": further.moved}
    columns["masked"] = further.masked
    expected = pd.DataFrame(counted(expected)).assign(**columns)
    pd.testing.assert_frame_equal(found.result, expected)


@pytest.mark.parametrize("pick", ["fisher", "fisher-opposite", "matched-0"])
@pytest.mark.parametrize("given", [{}, {"0": 1.0, "5": 1.0}, {"5": 1.0, "0": np.nan}])
def test_nothing_is_picked_by_what_ranks_no_layer(pick, given):
    """It would be the first layers of the network, whatever the name says."""
    training, dataset = made.settings_of(adversarial=None), made.dataset_of()
    network, optimizer, _ = made.trained(range(1), settings=training, seed=3, dataset=dataset)
    other = scored({"0": 1.0, "5": 2.0}).assign(criterion="clat")
    with pytest.raises(
        UserError, match=r"criterion fisher: ranks no layer of .* \(scores: "
    ) as told:
        train_picked(
            *(network, dataset, checkpoint(network, optimizer, epoch=1, seed=3)),
            **{"pick": pick, "criterion": "fisher", "lowest": False},
            scores=pd.concat([other, scored(given).assign(criterion="fisher")]),
            **{"scored": ["0", "5"], "share": 0.5, "training": training, "recipe": "standard"},
            **{"epochs": 1, "interpolations": [], "attack": {"f": FGSM}},
            **{"images": 17, "attacks": {"p": PGD}},
        )
    assert "a smaller eps under ablation.attacks" in str(told.value)


def test_labels_shift_into_reverse_order_and_inputs_under_the_highest_severity():
    dataset = made.dataset_of()
    plain = shifted(dataset, [])
    for split, (inputs, labels) in dataset.splits.items():
        assert torch.equal(plain.splits[split][0], inputs)
        assert torch.equal(plain.splits[split][1], dataset.classes - 1 - labels)
    stressed = [
        {"2": part[0] + 1, "10": part[0] + 5}
        for part in (dataset.splits[split] for split in ("train", "validation", "test"))
    ]
    moved = shifted(dataset, stressed)
    for split, (inputs, labels) in dataset.splits.items():
        assert torch.equal(moved.splits[split][0], inputs + 5)
        assert torch.equal(moved.splits[split][1], labels)


@pytest.mark.parametrize(
    ("recipes", "said"),
    [
        (["standrad"], "did you mean 'standard'"),
        (["standard@fgo"], "did you mean 'fog'"),
        (["standard@"], "no shift behind the @"),
        (["at-fgsm"], "at-fgsm"),
    ],
)
def test_recipes_and_shifts_that_are_not_there(recipes, said):
    use = {"recipes": recipes, "random_draws": 1}
    with pytest.raises(UserError, match=r"criteria\.use") as caught:
        make_config(criteria={"methods": ["depth"], "use": use}, stresses={"fog": {"kind": "fog"}})
    assert said in str(caught.value)


def test_a_shift_is_told_from_its_recipe():
    assert shift_of("at-nfgsm") == ("at-nfgsm", None)
    assert shift_of("standard@labels") == ("standard", "labels")
