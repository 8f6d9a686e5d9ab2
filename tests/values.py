"""A run in which no two choices have the same value, so that one taken for another shows."""

import json
from pathlib import Path

from support import OWN_CODE, Copy, copy_workflow

POLICIES = ("regular", "selective", "fragile_only", "random-0", "random-1")
CRITERIA = ("none", "full", "random-1", "matched-0", "fisher", "fisher_opposite")

CONFIG = """
datasets:
  digits: {train: 150, validation: 230, test: 70, split_seed: 3}
networks: [small_conv]
trainings:
  standard: {batch_size: 40, lr: 0.003, epochs: [1, 3]}
  hard:
    recipe: at-pgd
    adversarial: {eps: 0.07, steps: 2}
    batch_size: 30
    epochs: [3]
    tune: {grid: {lr: [0.002, 0.004]}, seeds: [7, 8], epochs: 1, attack: fgsm}
  lasting:
    recipe: at-pgd-lr
    adversarial: {eps: 0.08, steps: 1}
    batch_size: 50
    epochs: [3]
    regularisation: {layers: mvl, gamma: 0.3, eta: 0.2, perturber: salt, at: layer}
    tune: {as: hard, grid: {regularisation.gamma: [0.1, 0.5]}, seeds: [8, 9], attack: pgd}
seeds: [5, 6]
attacks:
  fgsm: {method: fgsm, eps: 0.04, eps_grid: [0, 0.02]}
  pgd: {method: pgd, steps: 2, eps: 0.06, eps_grid: [0, 0.03]}
  apgd: {method: apgd, steps: 3, eps: 0.05, eps_grid: [0, 0.01]}
robustness: {attacks: [apgd], epochs: [3], masking: 11}
stresses: {dull: {kind: contrast, severities: [5, 2], epochs: [3]}}
sustainability:
  {epochs: [3], at: layer, images: 41, perturbers: [fgsm], eta: 0.35, eta_grid: [-0.4, 0.1],
   noises: {salt: {kind: salt, strength: 0.06}}}
ablation: {attacks: [fgsm, pgd], images: 212, target: both}
synaptic_filtering:
  {layers: [conv3, fc], filters: [pulse, high_pass], thresholds: 6, random_draws: 2,
   global_range: [-0.2, 0.3]}
nodal_dropout: {layers: [conv3, fc], at: activation, filters_per_job: 20}
targeting: {layers: [conv3], at: output, attacks: [pgd], epochs: [3], permutations: 101}
remedy:
  {layers: [conv1, conv2], from_epochs: [3], strengths: [0.2, 0.6], judged_under: [fgsm],
   random_draws: 2}
perturbations:
  {layers: [conv1, conv2, fc], epochs: [3], kinds: [synapse_knockout, gaussian],
   parameters: [weight], shares: [0.7], sigmas: [0.5], repeats: 2, almost_chance: 0.15, ends: 0.3}
compression: {layers: [conv1, fc], epochs: [3], bits: [3, 6], inputs: true, scales: layer,
              prune: [0.35], loss: 0.055}
criteria:
  {methods: [fisher, taylor_adversarial, rerandomisation, reinitialisation, random],
   layers: [conv2, fc], epochs: [3], images: 43, attack: apgd, draws: 2, filters: 5, judged_on: 47,
   judged_under: [pgd], top_share: 0.4, permutations: 103,
   use: {recipes: [standard], methods: [fisher], lowest: [fisher], share: 0.15, epochs: 2,
         opposite: [fisher], random_draws: 2, matched_draws: 1, tests: [matched],
         interpolations: [0.9, 1]}}
ablations:
  halve: {function: "OWN_CODE:halve", layers: [conv1], epochs: [3]}
scores: {baseline: kept_fraction, integration: simpson, confidence: 0.9}
classes:
  tau:
    layers: {S_clean: 0.011, S_adv: 0.012, S_diff: 0.013}
    filters: {S_clean: 0.021, S_adv: 0.022, S_diff: 0.023}
    bands: {S_clean: 0.031, S_adv: 0.032, S_diff: 0.019}
retraining:
  {from_epochs: [3], by: layer, filter: high_pass, score: S_diff, attack: pgd, epochs: 1,
   judged_under: [apgd, pgd], random_draws: 2}
mending:
  {from_epochs: [3], candidates: [picked, harden], epochs: 2, rates: [0.006, 0.012], batch_size: 35,
   shares: [0.55, 1], clean_loss: 0.045, judged_under: [pgd, fgsm]}
""".replace("OWN_CODE", str(OWN_CODE))

PLACE = {"dataset": "digits", "network": "small_conv", "training": "standard"}
PLACE |= {"seed": "6", "epoch": "3"}
"""The checkpoint whose jobs are looked at, as wildcards name it."""

CHECKPOINT = "results/digits/small_conv/standard/seed-6/epoch-3"

MADE = [
    "results/digits/small_conv/lasting/seed-6/epoch-3/checkpoint.pt",
    *(
        f"{CHECKPOINT}/{file}"
        for file in (
            *("attacks/pgd/accuracy.tsv", "robustness/accuracy.tsv"),
            *("classes/layers.tsv", "classes/filters.tsv", "classes/bands.tsv"),
            *("layers/conv1/own/halve.npz", "perturbations/curves.tsv", "sustainability/lists.tsv"),
            *("layers/conv2/removal.npz", "examples/lost.tsv", "targeting/filters.tsv"),
            *("remedy/random-1/result.tsv", "mended/layers.tsv", "stresses.npz"),
            "compression/precision.json",
            *(f"retraining/{policy}/result.tsv" for policy in ("regular", "random-1")),
            *(f"criteria/standard/{name}/result.tsv" for name in CRITERIA[2:5]),
        )
    ),
]
"""What is made of the run: one checkpoint that leans on searches, and all of one other."""

TOLD = """
include: "Snakefile"

import atexit, json


def named(items):
    parts = ((name, items[name]) for name in items.keys())
    return {k: [*part] if type(part).__name__ == "Namedlist" else part for k, part in parts}


@atexit.register
def tell():
    jobs = [
        {"rule": job.rule.name, "wildcards": dict(job.wildcards.items())}
        | {key: named(getattr(job, key)) for key in ("input", "output", "params")}
        for job in workflow.dag.jobs
    ]
    with open("jobs.json", "w") as file:
        json.dump(jobs, file, default=str)
"""


def jobs(copy: Copy, *arguments: str) -> list[dict]:
    """Every job of a run that a dry run knows, with its rule, wildcards, input, output, params."""
    (copy.folder / "told.smk").write_text(TOLD, encoding="utf-8")
    copy.run("-n", "--quiet", "--snakefile", "told.smk", *(arguments or ["all"]))
    return json.loads(Path(copy.folder, "jobs.json").read_text(encoding="utf-8"))


def make(folder: Path) -> Copy:
    """The files of MADE, and what they are made of; bands are frozen, of which there are many."""
    copy = copy_workflow(folder, CONFIG.replace("by: layer, filter: high_pass", "by: band"))
    copy.run("--cores", "2", *MADE)
    return copy
