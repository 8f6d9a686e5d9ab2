"""Which values scripts choose: every file that they make, made a second time by a test that says
them. All of one checkpoint, and of a training that leans on searches; see tests/values.py."""

import copy
import json
from functools import cache, partial
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from support import OWN_CODE
from trainings import assert_same_bits, quiet
from values import CHECKPOINT, PLACE, make

from faultline.ablation.facts import Facts, counted, pack, unpack
from faultline.ablation.plugins import own_variants
from faultline.ablation.run import Base
from faultline.ablation.sweep import active_images, sweep
from faultline.ablation.variants import nodal_variants, random_variants, synaptic_variants
from faultline.attacks.craft import attack_curve, craft, judge
from faultline.attacks.selfchecks import checks
from faultline.base.files import load_arrays, load_table
from faultline.base.seeds import seed_of
from faultline.data.splits import images_of, prepare
from faultline.networks.evaluation import predict
from faultline.networks.layers import layers as layers_of
from faultline.run.loading import build_network, load_dataset, load_network
from faultline.studies.criteria.data import Data
from faultline.studies.criteria.earlier import earlier
from faultline.studies.criteria.judge import judged
from faultline.studies.criteria.picked import (
    matched_order,
    mean_depth,
    order_of,
    picked,
    random_order,
    settings_of,
)
from faultline.studies.criteria.removal import removal_variants
from faultline.studies.examples.chosen import examples, lost_images
from faultline.studies.fragile.remedy import feature_energy, gains, remedied
from faultline.studies.fragile.targeting import targeting
from faultline.studies.mending.mended import mend_by
from faultline.studies.mending.swept import swept as mended_layers
from faultline.studies.perturbations import scores as perturbed
from faultline.studies.perturbations.variants import perturbation_variants
from faultline.studies.retraining.frozen import freezable, frozen
from faultline.studies.sustainability.analysis import analyse, noise
from faultline.studies.sustainability.lists import list_table, most_vulnerable, probe_table
from faultline.studies.synaptic import scores
from faultline.training.epochs import make_optimizer, train_epochs

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
LAYERS = ["conv1", "conv2", "conv3", "fc"]
FGSM = {"method": "fgsm", "norm": "linf", "eps": 0.04, "steps": 20}
PGD = {"method": "pgd", "norm": "linf", "eps": 0.06, "steps": 2}
APGD = {"method": "apgd", "norm": "linf", "eps": 0.05, "steps": 3}
ATTACKS = {"fgsm": FGSM, "pgd": PGD, "apgd": APGD}
BOUNDS = (0.0, 1.0)
CONSTANT = {"kind": "constant", "epochs": 100, "factor": 0.1}
STANDARD = {
    **{"recipe": "standard", "optimizer": "adam", "lr": 0.003, "batch_size": 40},
    **{"momentum": 0.9, "weight_decay": 0, "schedule": CONSTANT, "adversarial": None},
    **{"augmentation": {"shift": 0, "flip": False}, "regularisation": None},
}
MENDS = ("picked", "harden")
HARD = STANDARD | {"recipe": "at-pgd", "lr": 0.001, "batch_size": 30}
HARD |= {"adversarial": {"eps": 0.07, "norm": "linf", "steps": 2, "step_size": None, "beta": 6}}
LASTING = HARD | {"recipe": "at-pgd-lr", "batch_size": 50, "regularisation": {"at": "layer"}}
LASTING |= {"adversarial": HARD["adversarial"] | {"eps": 0.08, "steps": 1}}


@pytest.fixture(scope="module")
def run(shared):
    """The files of the run, and what is opened of them: the data, and the checkpoint."""
    folder = shared("values", make).folder
    here = folder / CHECKPOINT
    dataset = load_dataset(folder / "results/digits/data.pt", CPU)
    network, state = load_network(here / "checkpoint.pt", "small_conv", dataset, device=CPU)
    of_runs = folder / "results/digits/small_conv"
    return SimpleNamespace(here=here, runs=of_runs, dataset=dataset, network=network, state=state)


def crafted(network, images, labels, name, *, seed=6, **more):
    """The images of an attack of the config at its own eps."""
    attack = ATTACKS[name]
    given = {"eps": attack["eps"], "bounds": BOUNDS, "seed": seed_of("attack", name, seed)}
    return craft(network, images, labels, attack=attack, **given | more)


def crafter(name):
    def made(network, images, labels, batch_size=500):
        return crafted(network, images, labels, name, batch_size=batch_size)

    return made


def same_arrays(path, expected):
    found = load_arrays(path)
    assert {*found} == {*expected}
    for key, values in expected.items():
        assert np.array_equal(found[key], values, equal_nan=found[key].dtype.kind == "f"), key


def same_table(path, expected, *, sort=()):
    found = load_table(path)
    here = [c for c in PLACE if c in found and c not in expected]
    for key in here:
        assert {*map(str, found.pop(key))} == {PLACE[key]}
    assert {*found} == {*expected}
    found, expected = (t.sort_values([*sort]) if sort else t for t in (found, expected))
    found, expected = (t.reset_index(drop=True) for t in (found[[*expected]], expected))
    for table in (found, expected):
        for column in table:  # missing numbers are missing, whatever stands for them
            if not any(isinstance(value, str) for value in table[column]):
                table[column] = table[column].astype("Float64").astype(float)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-12, atol=1e-15)


def test_the_data_are_split_by_their_seed_into_as_many(run):
    expected = prepare("digits", train=150, validation=230, test=70, split_seed=3)
    for split, (images, labels) in expected.splits.items():
        assert torch.equal(run.dataset.splits[split][0], images)
        assert torch.equal(run.dataset.splits[split][1], labels)


# Training


def naive_training(dataset, seed, settings, epochs, **more):
    """A network trained anew: (its state, optimiser state, rows)."""
    network = build_network("small_conv", dataset, seed=seed, device=CPU)
    optimizer = make_optimizer(network, settings)
    given = {"settings": settings, "seed": seed, "epochs": epochs, "say": quiet}
    rows = [*train_epochs(network, optimizer, dataset, **given, **more)]
    return network, optimizer, rows


def test_a_standard_training(run):
    network, optimizer, rows = naive_training(run.dataset, 6, STANDARD, range(3))
    state = torch.load(run.here / "checkpoint.pt", weights_only=True)
    assert_same_bits(dict(state["network"]), dict(network.state_dict()))
    assert_same_bits(state["optimizer"]["state"], optimizer.state_dict()["state"])
    assert (state["seed"], state["epoch"]) == (6, 3)
    same_table(run.here / "history.tsv", pd.DataFrame(rows))


def vulnerable(run, seed, *, eta, perturber):
    path = run.runs / f"standard/seed-{seed}/epoch-3/sustainability/errors.npz"
    errors = load_arrays(path)
    of = {key.split("/")[1]: v for key, v in errors.items() if key.startswith(f"{perturber}/")}
    return most_vulnerable(of, eta=eta)[0]


def test_a_training_takes_what_searches_chose_and_the_layers_of_its_own_seed(run):
    lr = json.loads((run.runs / "hard/tuning/chosen.json").read_text())["lr"]
    chosen = json.loads((run.runs / "lasting/tuning/chosen.json").read_text())
    assert chosen.pop("lr") == lr
    gamma = chosen.pop("regularisation.gamma")
    assert not chosen
    layers = vulnerable(run, 6, eta=0.2, perturber="salt")
    assert layers
    network, *_ = naive_training(
        *(run.dataset, 6, LASTING | {"lr": lr}, range(3)),
        regularised=dict.fromkeys(layers, gamma),
    )
    state = torch.load(run.runs / "lasting/seed-6/epoch-3/checkpoint.pt", weights_only=True)
    assert_same_bits(dict(state["network"]), dict(network.state_dict()))


def test_a_search_judges_each_candidate_on_validation_images(run):
    found = load_table(run.runs / "lasting/tuning/candidates.tsv")
    images, labels = images_of(run.dataset, "validation")
    lr = json.loads((run.runs / "hard/tuning/chosen.json").read_text())["lr"]
    eps, rows, sums = (0, 0.03, 0.06), [], {}
    for gamma, seed in product([0.1, 0.5], (8, 9)):
        layers = vulnerable(run, seed, eta=0.2, perturber="salt")
        regularised = dict.fromkeys(layers, gamma)
        network, *_ = naive_training(
            run.dataset, seed, LASTING | {"lr": lr}, range(3), regularised=regularised
        )
        correct, _ = attack_curve(
            *(network.eval(), images, labels),
            attack=PGD,
            eps=eps[-1],
            eps_grid=eps,
            bounds=BOUNDS,
            seed=seed_of("attack", "pgd", seed),
        )
        accuracies = [100 * hits.mean() for hits in correct.values()]
        rows.append([gamma, seed, *accuracies])
        sums.setdefault(gamma, []).append(sum(accuracies))
    key = "regularisation.gamma"
    columns = [key, "seed", *(f"eps_{e:g}" for e in eps)]
    assert found[columns].to_numpy(float) == pytest.approx(np.array(rows, float), rel=1e-12)
    best = max(sums, key=lambda value: np.mean(sums[value]))
    chosen = json.loads((run.runs / "lasting/tuning/chosen.json").read_text())
    assert chosen == {"lr": lr} | {key: best}
    assert {*found.loc[found["chosen"], key]} == {best}


# Attacks


def test_attacks_are_judged_on_all_test_images(run):
    images, labels = images_of(run.dataset, "test")
    assert len(labels) == 70
    found = {"pgd": load_table(run.here / "attacks/pgd/accuracy.tsv")}
    told = {"pgd": load_table(run.here / "attacks/pgd/checks.tsv")}
    hits = {"pgd": unpack(load_arrays(run.here / "attacks/pgd/correct.npz"))}
    table = load_table(run.here / "robustness/accuracy.tsv")
    assert {*table["attack"]} == {"apgd"}
    found["apgd"] = table
    told["apgd"] = load_table(run.here / "robustness/checks.tsv")
    every = unpack(load_arrays(run.here / "robustness/correct.npz"))
    hits["apgd"] = {key.removeprefix("apgd/"): value for key, value in every.items()}
    for name, grid in (("pgd", (0, 0.03, 0.06)), ("apgd", (0, 0.01, 0.05))):
        given = {"attack": ATTACKS[name], "eps": grid[-1], "bounds": BOUNDS, "std": (0.3,)}
        correct, adversarial = attack_curve(
            run.network, images, labels, eps_grid=grid, seed=seed_of("attack", name, 6), **given
        )
        assert {*hits[name]} == {f"{eps:g}" for eps in grid}
        for eps, right in correct.items():
            assert np.array_equal(hits[name][f"{eps:g}"], right)
        assert found[name]["eps"].tolist() == [*grid]
        assert found[name]["correct"].tolist() == [right.sum() for right in correct.values()]
        expected = checks(
            run.network, images, labels, adversarial=adversarial, correct=correct, **given
        )
        columns = ["check", "status", "detail"]
        assert told[name][columns].to_dict("records") == [
            {key: check[key] for key in columns} for check in expected
        ]


@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_stored_images_are_those_that_ablated_networks_are_judged_on(run, name):
    images, labels = images_of(run.dataset, "validation", 212)
    stored = torch.load(run.here / f"attacks/{name}/adversarial.pt", weights_only=True)["images"]
    assert torch.equal(stored, crafted(run.network, images, labels, name))


# Ablations


def swept(run, layers, make, *, split="validation", count=212, recrafted=("fgsm", "pgd"), of=None):
    images, labels = images_of(run.dataset, split, count)
    sets = {"clean": images}
    if split == "validation":
        for name in ("fgsm", "pgd"):
            sets[f"{name} transfer"] = crafted(run.network, images, labels, name)
    if of is not None:
        sets, labels = {name: images[of] for name, images in sets.items()}, labels[of]
    known = layers_of(run.network)
    attacks = {name: crafter(name) for name in recrafted}
    variants = make({name: known[name] for name in layers})
    given = {"ablated": layers, "attacks": attacks, "say": quiet}
    return sweep(run.network, variants, sets, labels, **given), torch.cat([*sets.values()])


@pytest.mark.parametrize("layer", ["fc", "all layers"])
def test_synaptic_filters_and_as_many_weights_at_random(run, layer):
    whole = layer == "all layers"
    limits = {"limits": (-0.2, 0.3)} if whole else {}
    seed = seed_of("digits", "small_conv", "standard", 6, 3, layer)
    layers = LAYERS if whole else [layer]

    def filters(layers):
        kinds = ["pulse", "high_pass"]
        return synaptic_variants(layers, kinds=kinds, count=6, together=whole, **limits)

    # 212 images in four parts, each with draws of its own
    part = np.random.default_rng(seed).permutation(212) % 4
    parts = []
    for index in range(4):
        own = {"draws": 2, "seed": seed_of("part", seed, index), "together": whole}
        of = torch.as_tensor(part == index)
        parts.append(swept(run, layers, partial(random_variants, **own), of=of)[0])
    facts = swept(run, layers, filters)[0].dealt(parts, part)
    place = "global" if whole else f"layers/{layer}"
    same_arrays(run.here / place / "synaptic-filtering.npz", facts.arrays())


def test_nodal_dropout(run):
    filters = range(20, 32)
    facts, images = swept(
        *(run, ["conv3"]),
        lambda layers: [
            *nodal_variants("conv3", layers["conv3"], filters=filters, at="activation")
        ],
    )
    active = active_images(run.network, "conv3", images, at="activation")
    facts.variants["changed_activations"] = active[[*filters]]
    same_arrays(run.here / "layers/conv3/nodal-dropout/20-31.npz", facts.arrays())


def dropped(run):
    """Layer -> the facts of its nodal dropout."""
    conv3 = [f"layers/conv3/nodal-dropout/{part}.npz" for part in ("0-19", "20-31")]
    fc = ["layers/fc/nodal-dropout/0-9.npz"]
    return {"conv3": facts_in(run.here, *conv3), "fc": facts_in(run.here, *fc)}


def test_an_ablation_of_the_users_own(run):
    function = f"{OWN_CODE}:halve"
    facts, _ = swept(
        *(run, ["conv1"]),
        lambda layers: own_variants(function, "conv1", layers["conv1"], options={}),
    )
    same_arrays(run.here / "layers/conv1/own/halve.npz", facts.arrays())


@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc"])
def test_random_perturbations(run, layer):
    facts, _ = swept(
        *(run, [layer]),
        lambda layers: perturbation_variants(
            layer,
            layers[layer],
            place=PLACE,
            kinds=["synapse_knockout", "gaussian"],
            parameters=["weight"],
            shares=[0.7],
            sigmas=[0.5],
            repeats=2,
        ),
    )
    same_arrays(run.here / f"layers/{layer}/perturbations.npz", facts.arrays())


def test_units_are_removed_before_test_images(run):
    facts, _ = swept(
        *(run, ["conv2"]),
        lambda layers: [*removal_variants("conv2", layers["conv2"], most=5)],
        **{"split": "test", "count": 47, "recrafted": ("pgd",)},
    )
    same_arrays(run.here / "layers/conv2/removal.npz", facts.arrays())


# Scores and classes


@cache
def facts_in(folder, *files):
    return Facts.concatenate([Facts.from_arrays(load_arrays(folder / file)) for file in files])


def test_scores(run):
    local = {
        layer: facts_in(run.here, f"layers/{layer}/synaptic-filtering.npz")
        for layer in ("conv3", "fc")
    }
    whole = facts_in(run.here, "global/synaptic-filtering.npz")
    swept = [("local", layer, facts, 2) for layer, facts in local.items()]
    swept.append(("global", "all layers", whole, 1))
    tables = {"layers": [], "baselines": [], "curves": [], "bands": []}
    for scope, layer, facts, compared in swept:
        here = {"scope": scope, "layer": layer}
        given = {"integration": "simpson", "confidence": 0.9, "compared": compared}
        for baseline in ("unfiltered", "kept_fraction", "random"):
            table = scores.layer_scores(facts, baseline=baseline, **given).assign(**here)
            if baseline == "kept_fraction":
                tables["layers"].append(table)
            combined = table[table["filter"] == "combined"]
            tables["baselines"].append(combined.assign(baseline=baseline))
        tables["curves"].append(scores.curves(facts, confidence=0.9).assign(**here))
        if scope == "local":
            bands = scores.band_scores(facts, baseline="kept_fraction", confidence=0.9)
            tables["bands"].append(bands.assign(layer=layer))
    for name, parts in tables.items():
        same_table(run.here / f"scores/{name}.tsv", pd.concat(parts))
    single = [
        scores.filter_scores(facts, confidence=0.9).assign(layer=layer)
        for layer, facts in dropped(run).items()
    ]
    same_table(run.here / "scores/filters.tsv", pd.concat(single))
    base = scores.base_accuracy(local["conv3"], confidence=0.9)
    same_table(run.here / "scores/base.tsv", base)
    assert {*base["n"]} == {212}


@pytest.mark.parametrize(
    ("unit", "family", "tau"),
    [
        ("layers", ["scope", "filter", "attack", "score"], (0.011, 0.012, 0.013)),
        ("filters", ["layer", "attack", "score"], (0.021, 0.022, 0.023)),
        ("bands", ["layer", "attack", "score"], (0.031, 0.032, 0.019)),
    ],
)
def test_classes_go_by_their_own_tau_and_q_values_by_their_family(run, unit, family, tau):
    from statsmodels.stats.multitest import multipletests

    table = load_table(run.here / f"classes/{unit}.tsv")
    limits = dict(zip(("S_clean", "S_adv", "S_diff"), tau, strict=True))
    several = 0
    for _, part in table.groupby(family, dropna=False):
        tested = part[~part["untouched"] & part["value"].notna()]
        several += len(tested) > 1
        if len(tested):
            q = multipletests(tested["p_value"], method="fdr_bh")[1]
            assert tested["q_value"].to_numpy() == pytest.approx(q, rel=1e-12)
        for row in part.to_dict("records"):
            limit = limits[row["score"]]
            fragile, antifragile = row["value"] < -limit, row["value"] > limit
            expected = "fragile" if fragile else "antifragile" if antifragile else "robust"
            expected = "undefined" if np.isnan(row["value"]) else expected
            assert row["class"] == ("untouched" if row["untouched"] else expected)
            assert row["tau"] == limit
    assert several
    if unit == "layers":  # all layers together are a family of their own
        assert {*table.loc[table["scope"] == "global", "compared"]} == {1}
        assert {*table.loc[table["scope"] == "local", "compared"]} == {2}


def test_scores_of_perturbations(run):
    parts = {"curves": [], "layers": [], "headline": []}
    for layer, kind, depth, role in (
        ("conv1", "conv", 0.0, ["first conv"]),
        ("conv2", "conv", 1 / 3, []),
        ("fc", "linear", 1.0, ["dense"]),
    ):
        facts = facts_in(run.here, f"layers/{layer}/perturbations.npz")
        given = {"chance": facts.chance, "confidence": 0.9}
        head = {"layer": layer, "layer_kind": kind, "depth": depth}
        parts["curves"].append(perturbed.curves(facts, **given).assign(**head))
        parts["layers"].append(perturbed.layer_losses(facts, **given).assign(**head))
        found = perturbed.headline(facts, role, almost_chance=0.15, **given)
        parts["headline"].append(found.assign(**head))
    for name, tables in parts.items():
        same_table(run.here / f"perturbations/{name}.tsv", pd.concat(tables))
    depth = perturbed.depth_test(pd.concat(parts["layers"]), ends=0.3)  # not of conv2, at 0.33
    assert {*depth["first_layers"]} == {*depth["last_layers"]} == {1}
    same_table(run.here / "perturbations/depth.tsv", depth)


# Layer sustainability


def test_relative_errors(run):
    images, labels = (part[:41] for part in run.dataset.splits["validation"])

    def attacked(network, images, labels, chunk):
        seed = seed_of("sustainability", "fgsm", 6, chunk)
        given = {"attack": FGSM, "eps": 0.04, "bounds": BOUNDS, "seed": seed}
        return craft(network, images, labels, **given)

    salt = noise("salt", strength=0.06, bounds=BOUNDS, seed=seed_of("sustainability", "salt", 6))
    errors = analyse(
        *(run.network, images, labels),
        perturbers={"fgsm": attacked, "salt": salt},
        at="layer",
        pixels=run.dataset.pixels,
        progress=quiet,
    )
    flat = {f"{name}/{probe}": v for name, of in errors.items() for probe, v in of.items()}
    same_arrays(run.here / "sustainability/errors.npz", flat)
    lists = list_table(errors, etas=[-0.4, 0.1, 0.35])
    same_table(run.here / "sustainability/lists.tsv", lists)
    probes = probe_table(errors, eta=0.35, confidence=0.9)
    same_table(run.here / "sustainability/probes.tsv", probes)


# Fragile filters


def test_targeting(run):
    images, labels = images_of(run.dataset, "validation", 212)
    adversarial = {"pgd": crafted(run.network, images, labels, "pgd")}
    table = targeting(
        *(run.network, ["conv3"], images, adversarial), at="output", bounds=BOUNDS, seed=6
    )
    same_table(run.here / "targeting/filters.tsv", table)


def accuracies(network, images, labels, attacks):
    correct = judge(network, images, labels, attacks={name: crafter(name) for name in attacks})
    return {name: right.mean() for name, right in correct.items()}


def test_gains_are_chosen_on_validation_images(run):
    images, labels = images_of(run.dataset, "validation")
    right = (run.network(images).argmax(1) == labels).numpy()
    table = load_table(run.here / "remedy/gains.tsv")
    assert [*table.groupby("policy", sort=False).groups] == ["fragile", "random-0", "random-1"]
    assert {*table["n"]} == {230} and len(labels) == 230
    energy = feature_energy(
        *(run.network, ["conv1", "conv2"], run.dataset.splits["train"][0]),
        pixels=run.dataset.pixels,
    )
    fragility, order = {}, {}
    for layer, filters in (("conv1", 16), ("conv2", 32)):
        variants = nodal_variants(
            *(layer, layers_of(run.network)[layer]), filters=range(filters), at="activation"
        )
        facts = sweep(
            run.network, [*variants], {"clean": images}, labels, ablated=[layer], say=quiet
        )
        fragility[layer] = right.mean() - facts.correct["clean"].mean(1)
        order["fragile", layer] = torch.arange(filters)
        for draw in (0, 1):
            seed = seed_of("random remedy", layer, 6, draw)
            dealt = torch.randperm(filters, generator=torch.Generator().manual_seed(seed))
            order[f"random-{draw}", layer] = dealt
    tried = load_table(run.here / "remedy/strengths.tsv").set_index(
        ["policy", "strength", "images"]
    )
    for policy in ("fragile", "random-0", "random-1"):
        mean = {}
        for strength in (0.2, 0.6):
            gain = {
                layer: gains(
                    torch.from_numpy(lost)[order[policy, layer]], energy[layer], strength=strength
                )
                for layer, lost in fragility.items()
            }
            found = accuracies(remedied(run.network, gain), images, labels, ["fgsm"])
            mean[strength] = np.mean([*found.values()])
            assert {*found} == {"clean", "fgsm"}
            for name, accuracy in found.items():
                assert tried.loc[(policy, strength, name), "accuracy"] == pytest.approx(accuracy)
        part = table[table["policy"] == policy]
        (best,) = {*part["strength"]}
        assert best == max(mean, key=lambda strength: (round(mean[strength], 12), -strength))
        for layer, lost in fragility.items():
            rows = part[part["layer"] == layer]
            assert rows["fragility"].to_numpy() == pytest.approx(lost)
            assert rows["energy"].to_numpy() == pytest.approx(energy[layer].numpy(), rel=1e-9)
            dealt = torch.from_numpy(lost)[order[policy, layer]]
            expected = gains(dealt, energy[layer], strength=best)
            assert rows["gain"].to_numpy() == pytest.approx(expected.numpy(), rel=1e-9)


def test_a_remedy_is_judged_on_test_images(run):
    policy = "random-1"
    images, labels = images_of(run.dataset, "test")
    table = load_table(run.here / "remedy/gains.tsv")
    rows = table[table["policy"] == policy]
    gain = {
        layer: torch.tensor([*part["gain"]]) for layer, part in rows.groupby("layer", sort=False)
    }
    network = remedied(run.network, gain)
    correct = judge(network, images, labels, attacks={"fgsm": crafter("fgsm")})
    same_arrays(run.here / f"remedy/{policy}/correct.npz", pack(correct))
    result = pd.DataFrame(counted(correct)).assign(strength=rows["strength"].iloc[0])
    same_table(run.here / f"remedy/{policy}/result.tsv", result)
    stored = torch.load(run.here / f"remedy/{policy}/network.pt", weights_only=True)
    assert_same_bits(dict(stored["network"]), dict(network.state_dict()))
    assert (stored["seed"], stored["epoch"]) == (6, 3)


# Training on


def trained_on(run, settings, epochs, masks):
    network = build_network("small_conv", run.dataset, seed=0, device=CPU)
    optimizer = make_optimizer(network, settings)
    network.load_state_dict(run.state["network"])
    optimizer.load_state_dict(copy.deepcopy(run.state["optimizer"]))  # it keeps what it is given
    given = {"settings": settings, "seed": 6, "epochs": epochs, "say": quiet}
    rows = [*train_epochs(network, optimizer, run.dataset, frozen=masks, **given)]
    return network.eval(), rows


def frozen_under(run, policy):
    """Naively: a band is fragile by its S_diff under pgd, on validation images."""
    classes = load_table(run.here / "classes/bands.tsv")
    assert {*classes["n"]} == {212}
    choice = {"by": "band", "score": "S_diff", "attack": "pgd", "filter": "combined"}
    found = freezable(layers_of(run.network), classes, **choice)
    name, _, draw = policy.partition("-")
    if name == "regular":
        return {}, found
    return frozen(found, policy=name, seed=6, draw=int(draw or 0)), found


def test_what_selective_retraining_freezes_is_fragile_on_validation_images(run):
    masks, found = frozen_under(run, "selective")
    assert found.fragile.any() and not found.fragile.all()
    draws = [frozen_under(run, f"random-{draw}")[0] for draw in (0, 1)]
    assert any(not torch.equal(draws[0][name], draws[1][name]) for name in masks)
    table = load_table(run.here / "classes/bands.tsv")
    rows = table[(table["attack"] == "pgd") & (table["score"] == "S_diff")]
    for layer, part in rows.groupby("layer"):
        edges = part.sort_values("band")["threshold"].to_numpy()
        weight = layers_of(run.network)[layer].weight.detach().double().numpy()
        nearest = np.abs(weight[..., None] - edges).argmin(-1)
        fragile = part.sort_values("band")["class"].eq("fragile").to_numpy()
        assert np.array_equal(masks[f"{layer}.weight"].numpy(), fragile[nearest])


@pytest.mark.parametrize("policy", ["regular", "random-1"])
def test_retraining_is_judged_on_test_images(run, policy):
    masks, _ = frozen_under(run, policy)
    network, rows = trained_on(run, STANDARD, range(3, 4), masks)
    stored = torch.load(run.here / f"retraining/{policy}/network.pt", weights_only=True)
    assert_same_bits(dict(stored["network"]), dict(network.state_dict()))
    assert (stored["seed"], stored["epoch"]) == (6, 4)
    same_table(run.here / f"retraining/{policy}/history.tsv", pd.DataFrame(rows))
    images, labels = images_of(run.dataset, "test")
    correct = judge(network, images, labels, attacks={k: crafter(k) for k in ("apgd", "pgd")})
    same_arrays(run.here / f"retraining/{policy}/correct.npz", pack(correct))
    fragile, _ = frozen_under(run, "selective")
    counts = {"frozen": sum(int(mask.sum()) for mask in masks.values())}
    counts["freezable"] = sum(mask.numel() for mask in masks.values())
    counts["fragile"] = sum(int(mask.sum()) for mask in fragile.values()) if masks else 0
    both = (int((mask & fragile[name]).sum()) for name, mask in masks.items())
    counts["fragile_frozen"] = sum(both)
    result = pd.DataFrame(counted(correct)).assign(**counts, masked="")
    same_table(run.here / f"retraining/{policy}/result.tsv", result)


# Mending


@pytest.mark.parametrize("name", ["harden", "picked"])
def test_a_mend_is_chosen_on_validation_images(run, name):
    classes = load_table(run.here / "classes/layers.tsv")
    assert {*classes["n"]} == {212}
    rows = classes[(classes["score"] == "S_adv") & (classes["attack"] == "pgd")]
    rows = rows[(rows["filter"] == "combined") & (rows["scope"] == "local") & rows["decided"]]
    network = copy.deepcopy(run.network)
    path, weights = mend_by(
        *(name, network, run.dataset),
        **{"training": STANDARD, "attack": {"normalised_units": False} | ATTACKS["pgd"]},
        **{"rates": [0.006, 0.012], "shares": [0.55, 1], "batch_size": 35, "epochs": 2},
        **{"clean_loss": 0.045, "seed": 6},
        fragile=rows.loc[rows["class"] == "fragile", "layer"].tolist(),
    )
    same_table(run.here / f"mended/{name}/path.tsv", path)
    stored = torch.load(run.here / f"mended/{name}/network.pt", weights_only=True)
    assert_same_bits(dict(stored["network"]), weights)
    assert (stored["seed"], stored["epoch"]) == (6, 3)


def test_mends_are_judged_on_test_images_beside_the_given_network(run):
    images, labels = images_of(run.dataset, "test")
    paths = {name: load_table(run.here / f"mended/{name}/path.tsv") for name in MENDS}
    tried = [name for name in MENDS if not paths[name]["best"].iloc[0]]
    networks = {"given": run.network}
    for name in tried:
        stored = torch.load(run.here / f"mended/{name}/network.pt", weights_only=True)
        networks[name] = copy.deepcopy(run.network)
        networks[name].load_state_dict(stored["network"])
    sets = {
        name: {attack: crafted(network, images, labels, attack) for attack in ("fgsm", "pgd")}
        for name, network in networks.items()
    }
    expected = {}
    for name, network in networks.items():
        right = {"clean": images} | sets[name]
        right = {k: (predict(network, x).argmax(1) == labels).numpy() for k, x in right.items()}
        every = [x for of in sets.values() for x in of.values()]
        worst = [(predict(network, x).argmax(1) == labels).numpy() for x in every]
        right["worst case"] = np.logical_and.reduce([right["clean"], *worst])
        expected |= {f"{name}|{of}": hits for of, hits in right.items()}
    same_arrays(run.here / "mended/correct.npz", pack(expected))
    result = load_table(run.here / "mended/result.tsv").set_index("candidate")
    assert [*result.index] == [*networks] and {*result["n"]} == {70}
    for name in networks:
        assert result.loc[name, "clean"] == expected[f"{name}|clean"].mean()
        assert result.loc[name, "worst"] == expected[f"{name}|worst case"].mean()
    handed_back = result.index[result["handed_back"]]
    assert (run.here / "mended.pt").exists() == bool(len(handed_back))
    for name in handed_back:
        mended = torch.load(run.here / "mended.pt", weights_only=True)
        assert_same_bits(mended, dict(networks[name].body.state_dict()))
        assert f"mended by {name}" in (run.here / "mended.md").read_text(encoding="utf-8")


def test_layers_of_a_mended_network_are_swept_again(run):
    result = load_table(run.here / "mended/result.tsv")
    assert result["handed_back"].sum() == 1
    ((name,),) = result.loc[result["handed_back"], ["candidate"]].to_numpy()
    stored = torch.load(run.here / f"mended/{name}/network.pt", weights_only=True)
    images, labels = images_of(run.dataset, "validation", 212)
    attacks = {key: {"normalised_units": False} | ATTACKS[key] for key in ("fgsm", "pgd")}
    table = mended_layers(
        Base(
            *(copy.deepcopy(run.network), run.dataset, {"clean": images}, labels),
            **{"recrafted": attacks, "seed": 6, "memory": lambda: 1e9},
        ),
        stored["network"],
        **{"layers": ["conv3", "fc"], "stored": attacks, "place": PLACE},
        **{"filters": ["pulse", "high_pass"], "thresholds": 6, "random_draws": 2},
        scores={"baseline": "kept_fraction", "integration": "simpson", "confidence": 0.9},
        tau={"S_clean": 0.011, "S_adv": 0.012, "S_diff": 0.013},
    )
    assert {*table["attack"]} == {"none", *("fgsm", "fgsm transfer", "pgd", "pgd transfer")}
    same_table(run.here / "mended/layers.tsv", table.drop(columns=[*PLACE]))


# Criteria


def test_criteria_see_validation_images(run):
    images, labels = images_of(run.dataset, "validation", 43)
    seed = seed_of("criteria", "digits", "small_conv", "standard", 6, 3)

    def built(seed):
        return build_network("small_conv", run.dataset, seed=seed, device=CPU)

    data = Data(
        network=run.network,
        images=images,
        labels=labels,
        layers=["conv2", "fc"],
        attack=APGD,
        bounds=BOUNDS,
        craft=lambda network, images, labels: crafted(network, images, labels, "apgd"),
        initial=lambda: built(6),
        redrawn=lambda: (built(seed_of("redrawn", seed, draw)) for draw in range(2)),
        seed=seed,
    )
    methods = ["fisher", "taylor_adversarial", "rerandomisation", "reinitialisation", "random"]
    same_table(run.here / "criteria/judged.tsv", judged(run.network, data, methods=methods))


def test_criteria_are_joined_by_other_studies_of_the_same_layers(run):
    files = {"layers": "scores/layers", "filters": "scores/filters"}
    files |= {"perturbed": "perturbations/layers", "probes": "sustainability/probes"}
    tables = {name: load_table(run.here / f"{file}.tsv") for name, file in files.items()}
    others = earlier(tables, attack="apgd")
    others = others[[layer in ("conv2", "fc") for layer in others["layer"]]]
    assert {*others["criterion"]} == {
        *("synaptic_clean", "synaptic_adversarial", "dropout_clean", "dropout_adversarial"),
        *("knockout", "relative_error"),
    }
    mine = load_table(run.here / "criteria/judged.tsv")
    same_table(run.here / "criteria.tsv", pd.concat([mine, others]))


@pytest.mark.parametrize("criterion", ["random-1", "matched-0", "fisher"])
def test_what_a_criterion_picks_is_trained_and_judged_on_test_images(run, criterion):
    layers, both = layers_of(run.network), ["conv2", "fc"]
    table = load_table(run.here / "criteria.tsv")
    table = table[table["criterion"] == "fisher"]
    order = order_of(layers, table, lowest=True, seed=6)  # as the config says
    if criterion == "random-1":
        order = random_order(layers, both, seed=6, draw=1)
    if criterion == "matched-0":
        order = matched_order(layers, both, order, share=0.15, seed=6, draw=0)
    masks = picked(layers, order, share=0.15)
    settings = settings_of(STANDARD, recipe="standard", attack=APGD)
    after, _ = trained_on(run, settings, range(3, 5), {name: ~mask for name, mask in masks.items()})
    before = run.network.state_dict()
    images, labels = images_of(run.dataset, "validation", 43)
    moved = {}
    for share in (0.9, 1):
        network = build_network("small_conv", run.dataset, seed=0, device=CPU).eval()
        network.load_state_dict(
            {
                name: torch.lerp(before[name], value, share) if value.is_floating_point() else value
                for name, value in after.state_dict().items()
            }
        )
        mean = np.mean([*accuracies(network, images, labels, ["apgd"]).values()])
        moved[share] = (mean, network)
    share = max(moved, key=lambda share: (moved[share][0], -share))
    images, labels = images_of(run.dataset, "test")
    correct = judge(moved[share][1], images, labels, attacks={"pgd": crafter("pgd")})
    folder = run.here / f"criteria/standard/{criterion}"
    same_arrays(folder / "correct.npz", pack(correct))
    trainable = sum(p.numel() for layer in layers.values() for p in layer.parameters())
    each = [
        sum(int(masks[f"{name}.{key}"].sum()) for key, _ in layer.named_parameters())
        for name, layer in layers.items()
    ]
    result = pd.DataFrame(counted(correct)).assign(trained=sum(each), trainable=trainable)
    result = result.assign(depth=mean_depth(each), moved=share, masked="")
    same_table(folder / "result.tsv", result)


def test_examples_are_test_images_and_lost_ones_those_that_filters_were_judged_on(run):
    found = examples(run.network, run.dataset, attacks=dict(sorted(ATTACKS.items())), seed=6)
    same_table(run.here / "examples/examples.tsv", found)
    lost = lost_images(
        run.network,
        lambda: images_of(run.dataset, "validation", 212),
        filters=load_table(run.here / "classes/filters.tsv"),
        facts=dropped(run),
        index=None,
        at="activation",
    )
    assert len(lost)
    same_table(run.here / "examples/lost.tsv", lost)
