# What the rules share: the checked config, paths, the enumeration of jobs.

import os
import sys
from pathlib import Path

import yaml

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "workflow"))
# Python would find an installed faultline before the folder of a job's script.
searched = [str(ROOT / "workflow"), *filter(None, [os.environ.get("PYTHONPATH")])]
os.environ.update(PYTHONPATH=os.pathsep.join(searched))

from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.base.fingerprint import fingerprint
from faultline.data.describe import describe
from faultline.networks.facts import networks
from faultline.run.plan import (
    count_filters,
    count_gpus,
    has_probe,
    is_for,
    published_rows,
    select_layers,
)
from faultline.run.sense import resolve

try:
    schema = (ROOT / "workflow/schemas/config.schema.yaml").read_text(encoding="utf-8")
    config = resolve(config, yaml.safe_load(schema))
    CLASSES = {name: describe(part, name=name).classes for name, part in config["datasets"].items()}
except UserError as error:
    sys.exit(f"error: {', '.join(map(str, workflow.configfiles))}: {error}")

RESULTS = config["results"].rstrip("/")
there = next(folder for folder in (Path(RESULTS), *Path(RESULTS).parents) if folder.exists())
if not (there.is_dir() and os.access(there, os.W_OK)):
    sys.exit(
        f"error: config key results: {there} is no folder that can be written to; name another"
    )
DATA = f"{RESULTS}/{{dataset}}/data.pt"
PART = "{dataset}/{network}/{training}/seed-{seed}/epoch-{epoch}"
CHECKPOINT = f"{RESULTS}/{PART}"
ATTACK = f"{CHECKPOINT}/attacks/{{attack}}"
LAYER = f"{CHECKPOINT}/layers/{{layer}}"
OWN_ABLATION = f"{LAYER}/own/{{ablation}}.npz"
RETRAINING = f"{CHECKPOINT}/retraining/{{policy}}"
REMEDY = f"{CHECKPOINT}/remedy/{{policy}}"
REPORT = f"{RESULTS}/report.html"
TUNING = f"{RESULTS}/{{dataset}}/{{network}}/{{training}}/tuning"
LOGS = f"{RESULTS}/logs/{PART}"
BENCHMARKS = f"{RESULTS}/benchmarks/{PART}"

PLACE = ["dataset", "network", "training", "seed", "epoch"]
CHOSEN_ATTACKS = config["ablation"]["attacks"]
FILTERING = config["synaptic_filtering"]
DROPOUT = config["nodal_dropout"]
RETRAIN = config["retraining"]
PERTURB = config["perturbations"]
POLICIES = [
    "regular",
    "selective",
    "fragile_only",
    *(f"random-{draw}" for draw in range(RETRAIN["random_draws"])),
]
TARGET = config["targeting"]
MEND = config["remedy"]
SUSTAIN = config["sustainability"]
ROBUST = config["robustness"]
REMEDIES = ["none", "fragile", *(f"random-{draw}" for draw in range(MEND["random_draws"]))]

# Stages that gain from a GPU ask for one; with device: auto, only on one machine that has any.
# A login node and a compute node could not agree on what `auto` means.
HERE = workflow.nodes is None and not workflow.remote_exec
GPU = int(config["device"] == "cuda" or (config["device"] == "auto" and HERE and count_gpus() > 0))
# On one machine no more GPU jobs than GPUs run at once; a cluster sees to this itself.
if GPU and HERE:
    workflow.global_resources.setdefault("gpu", max(count_gpus(), 1))


onstart:
    # With its limit of jobs per second, Snakemake 9.27 chooses anew once a second for each choice
    # that it ever made: half a core after a few hundred jobs.
    workflow.scheduler.job_rate_limiter = None


wildcard_constraints:
    dataset="[A-Za-z0-9_-]+",
    network="[A-Za-z0-9_-]+",
    training="[A-Za-z0-9_-]+",
    attack="[A-Za-z0-9_-]+",
    policy="[a-z_]+(-[0-9]+)?",
    layer="[A-Za-z0-9_.]+",
    ablation="[A-Za-z0-9_-]+",
    seed="[0-9]+",
    epoch="[0-9]+",
    first="[0-9]+",
    last="[0-9]+",


def code(script):
    """Fingerprint of the code that a rule's script uses; in params, it decides what reruns."""
    return fingerprint(ROOT / "workflow" / f"{script}.py")


def memory(megabytes):
    """Of the first attempt at a job; a retry asks for as much again."""
    return lambda wildcards, attempt: megabytes * attempt


def ordered(value):
    """Settings with their keys sorted, so that their order in the config means nothing."""
    if isinstance(value, dict):
        return {key: ordered(value[key]) for key in sorted(value)}
    return value


def training_settings(wildcards):
    """A training without what changes no segment: its list of checkpoints and its files; of the
    layers to regularise, those that the network has."""
    settings = config["trainings"][wildcards.training]
    elsewhere = ("epochs", "weights", "tune", "base", "published")
    settings = {k: value for k, value in settings.items() if k not in elsewhere}
    chosen = settings["regularisation"]
    if chosen and chosen["layers"] != "mvl":
        there = [probe for probe in chosen["layers"] if has_probe(wildcards.network, probe)]
        settings["regularisation"] = chosen | {"layers": there}
    return ordered(settings)


def with_code(settings, key):
    """Settings with the fingerprint of the user's function that one of them names, if it does."""
    function = settings.get(key, "")
    mine = plugins.is_own(function) and not function.startswith(plugins.TORCHVISION)
    return ordered(settings | ({"code": plugins.code(function)} if mine else {}))


def attack_settings(*names):
    return {name: with_code(config["attacks"][name], "method") for name in sorted(names)}


def network_layers(*names):
    """[name, kind, filters] of every layer of some networks."""
    return {name: networks()[name]["layers"] for name in sorted(names)}


def checkpoints(epochs=None):
    """Every checkpoint of the run, as a dict of its wildcards; `epochs` chooses among them."""
    return [
        dict(zip(PLACE, (dataset, network, training, seed, epoch)))
        for dataset in sorted(config["datasets"])
        for network in config["networks"]
        for training, settings in sorted(config["trainings"].items())
        for seed in config["seeds"]
        if is_for(settings, network)
        for epoch in settings["epochs"]
        if epochs in (None, "all")
        or (epochs == "last" and epoch == settings["epochs"][-1])
        or (isinstance(epochs, list) and epoch in epochs)
    ]


def published_accuracies():
    """The rows of the published table under the names of the trainings that repeat them."""
    rows = published_rows(config["published"]) if config["published"] else []
    return [
        ordered(row | {"training": name})
        for name, training in sorted(config["trainings"].items())
        for row in rows
        if training.get("published") == row["training"]
    ]


def with_layers(places, wanted):
    """The places whose network has any of the wanted layers."""
    return [place for place in places if select_layers(place["network"], wanted)]


def with_each(places, name, values):
    """Each place with each value under a further name."""
    return [place | {name: value} for place in places for value in values]


def place(wildcards):
    """The wildcards that name a checkpoint."""
    return {key: wildcards[key] for key in PLACE}


def paths(pattern, places):
    return [pattern.format(**place) for place in places]


def chunks(network, layer, dataset):
    """First and last filter of each nodal dropout job of a layer."""
    count, step = count_filters(network, layer, CLASSES[dataset]), DROPOUT["filters_per_job"]
    return [(first, min(first + step, count) - 1) for first in range(0, count, step)]


def previous_checkpoint(wildcards):
    """The checkpoint that a training segment starts from; none for the first."""
    epochs = config["trainings"][wildcards.training]["epochs"]
    index = epochs.index(int(wildcards.epoch))
    return [
        f"{CHECKPOINT}/checkpoint.pt".format(**place(wildcards) | {"epoch": epoch})
        for epoch in epochs[:index][-1:]
    ]


def standard_errors(wildcards, seeds):
    """The relative errors that lists of most vulnerable layers come from, where one is needed."""
    chosen = config["trainings"][wildcards.training]["regularisation"]
    if chosen is None or chosen["layers"] != "mvl":
        return []
    epoch = config["trainings"][chosen["of"]]["epochs"][-1]
    found = {"dataset": wildcards.dataset, "network": wildcards.network, "training": chosen["of"]}
    return paths(
        f"{CHECKPOINT}/sustainability/errors.npz",
        with_each([found | {"epoch": epoch}], "seed", seeds),
    )


def tuning_errors(wildcards):
    return standard_errors(wildcards, config["trainings"][wildcards.training]["tune"]["seeds"])


def tuning_settings(wildcards):
    """A search without its length and whose choice it starts from, which are told apart."""
    tune = config["trainings"][wildcards.training]["tune"]
    return ordered({k: value for k, value in tune.items() if k not in ("as", "epochs")})


def tuning_epochs(wildcards):
    training = config["trainings"][wildcards.training]
    return training["tune"]["epochs"] or training["epochs"][-1]


def taken_settings(wildcards):
    """What another training chose, which this one takes first."""
    other = config["trainings"][wildcards.training]["tune"].get("as")
    if other is None:
        return []
    return [f"{TUNING}/chosen.json".format(**{**wildcards, "training": other})]


def chosen_settings(wildcards):
    """The settings that a search chose for a training: its own, or that of another, or none."""
    tune = config["trainings"][wildcards.training]["tune"]
    if not tune:
        return []
    by = wildcards.training if tune["grid"] else tune["as"]
    return [f"{TUNING}/chosen.json".format(**{**wildcards, "training": by})]


def given_weights(wildcards):
    """The user's weights, where a training starts from some and this is its first segment."""
    training = config["trainings"][wildcards.training]
    if int(wildcards.epoch) != training["epochs"][0] or not training["weights"]:
        return []
    return [training["weights"][wildcards.network]]


def own_images(wildcards):
    """The user's folders of images or file of arrays: when they change, so do the data."""
    dataset = config["datasets"][wildcards.dataset]
    if dataset["source"] == "image_folder":
        from faultline.data.folders import folders

        return folders(dataset["folder"], name=wildcards.dataset)
    return [os.path.expanduser(dataset["file"])] if dataset["file"] else []


def adversarial_sets(wildcards):
    """The stored adversarial test sets; none where each variant is attacked anew."""
    if config["ablation"]["target"] == "ablated":
        return []
    return paths(
        f"{ATTACK}/adversarial.pt", with_each([place(wildcards)], "attack", CHOSEN_ATTACKS)
    )


def ablated_layers(place):
    """The layers of a network that any scored ablation is about."""
    wanted = (FILTERING["layers"], DROPOUT["layers"])
    return [layer for key in wanted for layer in select_layers(place["network"], key)]


def filtered_layers(wildcards):
    return select_layers(wildcards.network, FILTERING["layers"])


def dropout_jobs(wildcards):
    """Layer, first and last filter of every nodal dropout job of a checkpoint."""
    return [
        {"layer": layer, "first": first, "last": last}
        for layer in select_layers(wildcards.network, DROPOUT["layers"])
        for first, last in chunks(wildcards.network, layer, wildcards.dataset)
    ]


def deciding_classes(wildcards):
    """The classes that say what is fragile; `regular` retraining needs none."""
    if wildcards.policy == "regular":
        return []
    unit = {"layer": "layers", "band": "bands"}[RETRAIN["by"]]
    return [f"{CHECKPOINT}/classes/{unit}.tsv".format(**place(wildcards))]
