# What the rules share: the checked config, the plan made of it, where files lie.

import hashlib
import os
import re
import sys
from functools import partial
from pathlib import Path

from snakemake.utils import update_config

if not isinstance(workflow.current_basedir, os.PathLike):
    sys.exit(
        f"error: {workflow.current_basedir}: faultline runs from a clone, as its library is part of "
        "it; clone the repository and name the Snakefile in it"
    )
ROOT = Path(workflow.current_basedir).parent
sys.path.insert(0, str(ROOT / "workflow"))
# Python would find an installed faultline before the folder of a job's script.
searched = [str(ROOT / "workflow"), *filter(None, [os.environ.get("PYTHONPATH")])]
os.environ.update(PYTHONPATH=os.pathsep.join(searched))

from faultline.attacks.methods import one_step
from faultline.base.columns import place
from faultline.base.errors import UserError
from faultline.base.fingerprint import remembered
from faultline.snake import frozen, records
from faultline.snake.hooks import Run
from faultline.run import cautions, cost, coverage, ending
from faultline.base import paths as results
from faultline.config.places import check_results
from faultline.run.plan import (
    Plan,
    count_gpus,
    fill,
    network_layers,
    ordered,
    with_code,
    with_each,
    with_each_layer,
    with_layers,
)
from faultline.run.targets import one_of, outputs, several
from faultline.networks.selection import select_layers
from faultline.config.reading import check_file, check_size
from faultline.config.schema import from_command_line, names_one_of
from faultline.studies.config import ASIDE, resolve, schema
from faultline.studies.criteria.names import shift_of
from faultline.studies.order import STUDIES, described, tables_of

RUN = Run(workflow, ROOT)
ALONE = RUN.alone
try:
    for file in (workflow.configfiles or ["config.yaml"]) if ALONE else []:
        check_file(file)
except UserError as error:
    sys.exit(f"error: {error}")

# A config given on the command line stands alone; Snakemake would merge it into the default one.
if not workflow.configfiles:

    configfile: "config.yaml"


given = dict(workflow.config_settings.config) if ALONE else {}
# A job's own Snakemake goes by the run that it is of.
OF_A_RUN = frozen.resume(RUN.workflow)
try:
    check_size(given)
    update_config(config, from_command_line(given, schema()))
    GIVEN = config
    CONFIG = resolve(config, alone=ALONE)
    config = CONFIG.dump()  # Snakemake and its jobs take plain values
    check_results(CONFIG.results)
    PLAN = Plan(CONFIG)
    CLASSES = PLAN.classes
    if not (OF_A_RUN or RUN.workflow.dry):
        os.environ[frozen.SOURCES] = frozen.sources(config)
except UserError as error:
    files = [str(file) for file in workflow.configfiles] or ["config"]
    origin = ["--config"] if names_one_of(error, given) else files + ["--config"] * bool(given)
    sys.exit(f"error: {', '.join(origin)}: {error}")

RUN.prepare(config)
RESULTS = records.folder_of(config)
DATA = f"{RESULTS}/{results.DATA}"
STRESS = f"{RESULTS}/{results.STRESS}"
NETWORK = f"{RESULTS}/{results.NETWORK}"
TUNING = f"{RESULTS}/{results.TUNING}"
CHECKPOINT = f"{RESULTS}/{results.CHECKPOINT}"
ATTACK = f"{RESULTS}/{results.ATTACK}"
LAYER = f"{RESULTS}/{results.LAYER}"
OWN_ABLATION = f"{RESULTS}/{results.OWN_ABLATION}"
RETRAINING = f"{RESULTS}/{results.RETRAINING}"
PICKED = f"{RESULTS}/{results.PICKED}"
REMEDY = f"{RESULTS}/{results.REMEDY}"
CANDIDATE = f"{RESULTS}/{results.CANDIDATE}"
REPORT = f"{RESULTS}/report.html"
TEMPLATE = ROOT / "workflow/faultline/report/report.html.j2"
LOGS = f"{RESULTS}/logs/{results.CHECKPOINT}"
TABLES = {}  # name -> file, of all studies
# Of every job between data and tables what a run asks for, too: where a job failed or a file was
# lost, Snakemake would otherwise take what was once made of it for up to date.
BETWEEN = []
SHOWN = {
    *("accuracy", "base", "invariance", "comparison", "association", "remedy", "robustness"),
    *("robustness_differences", "perturbation_headline", "sustainability_lists", "ablations"),
}  # those that `snakemake --report` shows

# Stages that gain from a GPU ask for one; with device: auto, only on one machine that has any.
# A login node and a compute node could not agree on what `auto` means.
GPU = int(CONFIG.device == "cuda" or (CONFIG.device == "auto" and RUN.here and count_gpus() > 0))
# On one machine no more GPU jobs than GPUs run at once; a cluster sees to this itself.
if GPU and RUN.here:
    RUN.workflow.limit("gpu", max(count_gpus(), 1))


# What leads to retraining goes first: it is the longest chain, and the rest fills what it leaves.
CHAIN = 1

# What of the networks is not looked at, and what of the data must be known; told by a dry run here,
# else when it is known what to run.
COVERAGE = cautions.notes(PLAN) | coverage.notes(
    CONFIG.networks,
    targeting=CONFIG.targeting,
    norms=CONFIG.ablation.norms,
    parameters=CONFIG.ablation.parameters,
)
if RUN.workflow.dry:
    RUN.tell(COVERAGE)
RUN.costs = partial(cost.told, PLAN, here=RUN.here, gpu=bool(GPU))
RUN.warm_up()


onstart:
    RUN.begin(
        config,
        GIVEN,
        report=REPORT,
        notes=COVERAGE,
        check=partial(cost.check, PLAN, gpu=bool(GPU)),
    )


wildcard_constraints:
    dataset="[A-Za-z0-9_-]+",
    network="[A-Za-z0-9_-]+",
    training="[A-Za-z0-9_-]+",
    attack="[A-Za-z0-9_-]+",
    stress="[A-Za-z0-9_-]+",
    split="test|validation|train",
    policy="[a-z_]+(-[0-9]+)?",
    recipe="[a-z-]+(@[A-Za-z0-9_-]+)?",
    candidate="[A-Za-z_][A-Za-z0-9_]*",
    criterion="[A-Za-z_][A-Za-z0-9_]*(-[0-9]+)?",
    layer="[A-Za-z0-9_.]+",
    ablation="[A-Za-z0-9_-]+",
    unit="layers|filters|bands",
    seed="[0-9]+",
    epoch="[0-9]+",
    first="[0-9]+",
    last="[0-9]+",


FINGERPRINT = remembered(Path(".snakemake"))


def code(*names):
    """Fingerprint of the code that a rule's script uses; in params, it decides what reruns."""
    return FINGERPRINT(*(ROOT / "workflow" / f"{name}.py" for name in names))


def memory(megabytes, *, per_input=0):
    """Of the first attempt at a job, with so much for each megabyte of its inputs; a retry asks for
    as much again."""
    return lambda wildcards, input, attempt: attempt * (
        megabytes + int(per_input * input.size_mb if per_input else 0)
    )


def tables(study, **sources):
    """The files of a study's tables, of which the report is then made; those that are small enough
    are shown by `snakemake --report`, too. sources: table -> what it is made of; where that is
    nothing, there is no such table."""
    names = {n: about for n, about in tables_of(study).items() if sources.get(n, True)}
    files = {name: f"{RESULTS}/tables/{name}.tsv" for name in names}
    TABLES.update(files)
    about = {"caption": "../workflow/captions/table.rst", "category": "Tables"}
    about["subcategory"] = study
    for name in set(files) & SHOWN:
        labels = {"table": name, "holds": names[name]}
        files[name] = report(files[name], labels=labels, **about)
    return files


def adversarial_sets(wildcards, names=PLAN.transferred()):
    """The stored images of some attacks on a checkpoint; of those that ablated networks reuse."""
    return fill(f"{ATTACK}/adversarial.pt", with_each([place(wildcards)], "attack", names))


def stored_sets(wildcards):
    """The images that ablated networks reuse: attacked ones, and those under stresses."""
    ablation = CONFIG.ablation
    stressed = stressed_sets(wildcards, ablation.stresses, ablation.split)
    return adversarial_sets(wildcards) + stressed


def stressed_sets(wildcards, names, *splits):
    """The images of some splits under some stresses, split by split."""
    places = with_each([place(wildcards)], "split", splits)
    return fill(f"{STRESS}.pt", with_each(places, "stress", names))


def shifted_sets(wildcards, recipe):
    """The images of all splits under the stress that a recipe names, if it names one."""
    names = [name for name in PLAN.shifts() if name == shift_of(recipe)[1]]
    return stressed_sets(wildcards, names, "train", "validation", "test")


def given_weights(wildcards):
    """The file of the weights that a training starts from, where it starts from some."""
    first = PLAN.training(wildcards.training).epochs[0]
    given = PLAN.given_weights(wildcards.network, wildcards.training, first)
    return [given] if given else []


def given_key(wildcards):
    """The name of the state dict in that file that is meant."""
    first = PLAN.training(wildcards.training).epochs[0]
    return PLAN.weights_key(wildcards.network, wildcards.training, first)


def chosen_images(wildcards):
    """The file of the images that ablated networks are judged on, where they are chosen by margin."""
    return fill(f"{CHECKPOINT}/chosen-images.npz", [place(wildcards)] * PLAN.by_margin())


def shared_images(places):
    """The files of images that all ablated networks of some checkpoints share."""
    files = (stored_sets(each) + chosen_images(each) for each in places)
    return [*dict.fromkeys(file for some in files for file in some)]


def dropout_facts(wildcards):
    """The facts of nodal dropout on a checkpoint."""
    jobs = PLAN.dropout_jobs(wildcards.network, wildcards.dataset)
    places = [place(wildcards) | job for job in jobs]
    return fill(f"{LAYER}/nodal-dropout/{{first}}-{{last}}.npz", places)


def standard_errors(wildcards, seeds):
    """The relative errors that lists of most vulnerable layers come from, where one is needed."""
    if (standard := PLAN.standard_checkpoint(wildcards.training)) is None:
        return []
    training, epoch = standard
    of = {"dataset": wildcards.dataset, "network": wildcards.network}
    places = with_each([of | {"training": training, "epoch": epoch}], "seed", seeds)
    return fill(f"{CHECKPOINT}/sustainability/errors.npz", places)


def chosen_settings(wildcards, by=PLAN.chosen_by):
    """The settings that a search chose for a training, if any did."""
    training = by(wildcards.training)
    return fill(f"{TUNING}/chosen.json", [{**wildcards, "training": training}] * bool(training))


def earlier_result(file, places, on_validation=CONFIG.ablation.split == "validation"):
    """A function of wildcards: a file of another study, where it has one of the checkpoint and saw
    nothing but validation images."""
    there = one_of(places)
    return lambda w: fill(f"{CHECKPOINT}/{file}", [place(w)] * (on_validation and there(w)))


def classes_of(units, name):
    """The classes of such units, where a candidate goes by them."""
    return [f"{CHECKPOINT}/classes/{units}.tsv"] * (candidate(CANDIDATES[name]).by_class == units)


def mended_networks(wildcards):
    """The weights that each candidate made of a checkpoint."""
    return fill(f"{CANDIDATE}/network.pt", with_each([place(wildcards)], "candidate", CANDIDATES))


def of_all_attacks(file):
    """A file of every checkpoint and attack, of those evaluated together last."""
    return fill(f"{ATTACK}/{file}", PLAN.attacked()) + fill(
        f"{CHECKPOINT}/robustness/{file}", PLAN.together()
    )
