# What the rules share: the checked config, the plan made of it, where files lie.

import os
import re
import sys
from importlib import import_module
from pathlib import Path

from snakemake.logging import logger
from snakemake.settings.types import ExecMode
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
from faultline.base.columns import PLACE, RUN
from faultline.base.errors import UserError
from faultline.base.files import save_text
from faultline.base.fingerprint import remembered
from faultline.snake import began, console, deleting, kept, lock, made, stopping, warm
from faultline.run import cautions, coverage
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
)
from faultline.networks.selection import select_layers
from faultline.config.reading import check_file, check_size
from faultline.config.schema import from_command_line, told
from faultline.studies.config import resolve, schema
from faultline.studies.order import STUDIES

# Another workflow that has this one as a module speaks for itself, and has a --config of its own.
ALONE = ROOT in Path(workflow.main_snakefile).resolve().parents
try:
    for file in (workflow.configfiles or ["config.yaml"]) if ALONE else []:
        check_file(file)
except UserError as error:
    sys.exit(f"error: {error}")

# A config given on the command line stands alone; Snakemake would merge it into the default one.
if not workflow.configfiles:

    configfile: "config.yaml"


MAIN = workflow.exec_mode == ExecMode.DEFAULT  # no process that Snakemake starts for a job
CONSOLE = console.install(workflow) if ALONE else None
STOPPED = CONSOLE.stopped if CONSOLE else stopping.told
if ALONE and MAIN:
    stopping.stop_with_jobs(STOPPED)
given = dict(workflow.config_settings.config) if ALONE else {}
# A job's own Snakemake goes by the run that it is of.
OF_A_RUN = not MAIN and (began.resume(workflow.configfiles) or began.SOURCES in os.environ)
try:
    check_size(given)
    update_config(config, from_command_line(given, schema()))
    GIVEN = config
    CONFIG = resolve(config, alone=ALONE)
    config = CONFIG.dump()  # Snakemake and its jobs take plain values
    check_results(CONFIG.results)
    PLAN = Plan(CONFIG)
    CLASSES = PLAN.classes
    if not OF_A_RUN:
        os.environ[began.SOURCES] = began.sources(config)
except UserError as error:
    files = [str(file) for file in workflow.configfiles] or ["config"]
    origin = ["--config"] if told(error, given) else files + ["--config"] * bool(given)
    sys.exit(f"error: {', '.join(origin)}: {error}")

RESULTS = made.folder_of(config)
made.carry(RESULTS, digests=kept.folder_of(config))
if ALONE and MAIN:
    deleting.go_with_outputs(config)
DATA = f"{RESULTS}/{results.DATA}"
NETWORK = f"{RESULTS}/{results.NETWORK}"
TUNING = f"{RESULTS}/{results.TUNING}"
CHECKPOINT = f"{RESULTS}/{results.CHECKPOINT}"
ATTACK = f"{RESULTS}/{results.ATTACK}"
LAYER = f"{RESULTS}/{results.LAYER}"
OWN_ABLATION = f"{RESULTS}/{results.OWN_ABLATION}"
RETRAINING = f"{RESULTS}/{results.RETRAINING}"
PICKED = f"{RESULTS}/{results.PICKED}"
REMEDY = f"{RESULTS}/{results.REMEDY}"
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
HERE = workflow.nodes is None and not workflow.remote_exec
GPU = int(CONFIG.device == "cuda" or (CONFIG.device == "auto" and HERE and count_gpus() > 0))
# On one machine no more GPU jobs than GPUs run at once; a cluster sees to this itself.
if GPU and HERE:
    workflow.global_resources.setdefault("gpu", max(count_gpus(), 1))


# What leads to retraining goes first: it is the longest chain, and the rest fills what it leaves.
CHAIN = 1

# What of the networks is not looked at, and what of the data must be known; told by a dry run here,
# else when it is known what to run.
COVERAGE = cautions.told(PLAN) | coverage.told(CONFIG)


def tell_coverage():
    if ALONE and MAIN:
        for heading, text in COVERAGE.items():
            logger.info(f"{heading}: {text}")


if workflow.output_settings.dryrun:
    tell_coverage()

if MAIN and HERE:
    stopping.be_watched()

# On one machine, jobs start from a process that has imported what they all need; it does so while
# Snakemake works out what to run.
if HERE and not (workflow.output_settings.dryrun or workflow.deployment_settings.deployment_method):
    warm.start()


onstart:
    if ALONE and MAIN:
        try:
            lock.take(RESULTS)
            began.begin(workflow, GIVEN, RESULTS)
            if any(REPORT in job.output for job in workflow.dag.jobs):
                made.list_files(workflow.dag, RESULTS)
        except (UserError, OSError) as error:  # such as a full disk
            sys.exit(f"error: {error}")
        # Snakemake has put a handler of its own in place.
        stopping.stop_with_jobs(STOPPED, also=workflow.scheduler.exit_gracefully)
    tell_coverage()
    if ALONE and MAIN:
        for line in console.reasons(workflow.dag):
            logger.info(line)
    if workflow.touch:  # whoever asks for this takes what is there for what would be made
        made.forget(file for job in workflow.dag.needrun_jobs() for file in job.output)
    # Who forces jobs wants them and what follows computed again, though it is kept.
    if CONFIG.keep.gb and not workflow.remote_exec:
        dag = workflow.dag
        forced = [job for job in dag.needrun_jobs() if dag.reason(job).forced]
        following = dag.bfs(dag.depending, *forced)
        kept.force(config, [job.output[0] for job in following if job.output])
    # With its limit of jobs per second, Snakemake 9.27 chooses anew once a second for each choice
    # that it ever made: half a core after a few hundred jobs.
    workflow.scheduler.job_rate_limiter = None


wildcard_constraints:
    dataset="[A-Za-z0-9_-]+",
    network="[A-Za-z0-9_-]+",
    training="[A-Za-z0-9_-]+",
    attack="[A-Za-z0-9_-]+",
    policy="[a-z_]+(-[0-9]+)?",
    recipe="[a-z-]+",
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


def outputs(rule, places):
    """What a run asks for of a rule's jobs at some places: one file of each job, and others that
    are lost. Snakemake looks up every file that it is asked for, which takes it long."""
    found = []
    for first, *others in zip(*(fill(pattern, places) for pattern in rule.output)):
        found.append(first)
        if others and os.path.exists(first):
            found += [file for file in others if not os.path.exists(file)]
    return found


def tables(study, **sources):
    """The files of a study's tables, of which the report is then made; those that are small enough
    are shown by `snakemake --report`, too. sources: table -> what it is made of; where that is
    nothing, there is no such table."""
    names = import_module(f"faultline.studies.{study}").TABLES
    names = {name: about for name, about in names.items() if sources.get(name, True)}
    made = {name: f"{RESULTS}/tables/{name}.tsv" for name in names}
    TABLES.update(made)
    about = {"caption": "../workflow/captions/table.rst", "category": "Tables"}
    about["subcategory"] = study
    for name in set(made) & SHOWN:
        labels = {"table": name, "holds": names[name]}
        made[name] = report(made[name], labels=labels, **about)
    return made


def place(wildcards):
    """The wildcards that name a checkpoint."""
    return {key: wildcards[key] for key in PLACE}


def adversarial_sets(wildcards, names=PLAN.transferred()):
    """The stored images of some attacks on a checkpoint; of those that ablated networks reuse."""
    return fill(f"{ATTACK}/adversarial.pt", with_each([place(wildcards)], "attack", names))


def chosen_images(wildcards):
    """The file of the images that ablated networks are judged on, where they are chosen by margin."""
    return fill(f"{CHECKPOINT}/chosen-images.npz", [place(wildcards)] * PLAN.by_margin())


def shared_images(places):
    """The files of images that all ablated networks of some checkpoints share."""
    files = (adversarial_sets(each) + chosen_images(each) for each in places)
    return [*dict.fromkeys(file for some in files for file in some)]


def dropout_facts(wildcards):
    """What nodal dropout found out about a checkpoint."""
    jobs = PLAN.dropout_jobs(wildcards.network, wildcards.dataset)
    places = [place(wildcards) | job for job in jobs]
    return fill(f"{LAYER}/nodal-dropout/{{first}}-{{last}}.npz", places)


def standard_errors(wildcards, seeds):
    """The relative errors that lists of most vulnerable layers come from, where one is needed."""
    if (found := PLAN.standard_checkpoint(wildcards.training)) is None:
        return []
    training, epoch = found
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
    known = {tuple(str(place[key]) for key in PLACE) for place in places}
    return lambda w: (
        fill(f"{CHECKPOINT}/{file}", [place(w)])
        if on_validation and tuple(w[key] for key in PLACE) in known
        else []
    )


def several(places):
    """Whether any network in any training has more than one of the checkpoints."""
    checkpoints, runs = ({tuple(p[key] for key in of) for p in places} for of in (PLACE, RUN))
    return len(checkpoints) > len(runs)


def of_all_attacks(file):
    """A file of every checkpoint and attack, of those evaluated together last."""
    return fill(f"{ATTACK}/{file}", PLAN.attacked()) + fill(
        f"{CHECKPOINT}/robustness/{file}", PLAN.together()
    )


def end_run(report):
    """Write the page on the run itself, and tell where the report is."""
    from faultline.report import timeline
    from faultline.report.render import load_look, versions

    began = workflow.start_time.timestamp()
    jobs = timeline.taken(Path(RESULTS))
    if len(jobs):
        page = timeline.timeline(
            jobs,
            since=began,
            facts=timeline.about(ROOT, command=sys.argv, began=began),
            config=config,
            versions=versions(),
            **load_look(TEMPLATE),
        )
        save_text(page, f"{RESULTS}/run.html")
    if CONSOLE:
        print(CONSOLE.end(report=report, earlier=len(made.earlier(RESULTS))), file=sys.stderr)
