"""Which values of the config each rule hands to its script, which files, and of which checkpoints:
said a second time, of a run in which no two have the same value."""

import json
import math

import pytest
import yaml
from support import RULES, STUDIES, Copy, copy_workflow
from values import CHECKPOINT, CONFIG, CRITERIA, PLACE, POLICIES, jobs

from faultline.studies.mending.candidates import CANDIDATES

GIVEN = yaml.safe_load(CONFIG)
DATA = "results/digits/data.pt"
OPENED = {"data": DATA, "checkpoint": "checkpoint.pt"}
NETWORK = [["conv1", "conv", 16], ["conv2", "conv", 32], ["conv3", "conv", 32]]
NETWORK += [["fc", "linear", "classes"]]
FILTERS = [f"layers/conv3/nodal-dropout/{part}.npz" for part in ("0-19", "20-31")]
FILTERS += ["layers/fc/nodal-dropout/0-9.npz"]


def attacks(*names):
    """Name -> all settings of an attack."""
    common = {"norm": "linf", "normalised_units": False, "options": {}, "step_size": None}
    found = {}
    for name in names:
        settings = common | GIVEN["attacks"][name]
        grid = [*map(float, settings["eps_grid"]), settings["eps"]]
        found[name] = settings | {"eps_grid": grid}
    return found


def training(name):
    """The settings of a training that its segments depend on."""
    plain = {"adversarial": None, "augmentation": {"flip": False, "shift": 0}, "lr": 0.001}
    plain |= {"momentum": 0.9, "optimizer": "adam", "recipe": "standard", "weight_decay": 0}
    plain |= {"schedule": {"epochs": 100, "factor": 0.1, "kind": "constant"}}
    plain |= {"regularisation": None}
    own = {k: v for k, v in GIVEN["trainings"][name].items() if k not in ("epochs", "tune")}
    if "adversarial" in own:
        own["adversarial"] |= {"beta": 6, "norm": "linf", "step_size": None}
    if "regularisation" in own:
        own["regularisation"] |= {"of": "standard", "on_empty": "base"}
    return plain | own


STORED = {"adversarial": ["attacks/fgsm/adversarial.pt", "attacks/pgd/adversarial.pt"]}
SWEPT = OPENED | STORED | {"chosen": []}
SETS = {"images": 212, "split": "validation", "transferred": ["fgsm", "pgd"]}
SETS |= {"stressed": {}}
SETS |= {"recrafted": attacks("fgsm", "pgd")}
SYNAPTIC = {"sets": SETS, "filters": ["pulse", "high_pass"], "thresholds": 6, "random_draws": 2}
LASTING = {"training": "lasting"}
ERRORS = "results/digits/small_conv/standard/seed-{}/epoch-3/sustainability/errors.npz"
TUNED = "results/digits/small_conv/{}/tuning/chosen.json"
POLICY = {"training": training("standard"), "epochs": 1, "attacks": attacks("apgd", "pgd")}
CHOICE = {"by": "layer", "filter": "high_pass", "score": "S_diff", "attack": "pgd"}
RETRAINED = OPENED | {"chosen": [], "errors": []}
PICKED = {"share": 0.15, "epochs": 2, "interpolations": [0.9, 1]}
PICKED |= {"training": training("standard"), "layers": ["conv2", "fc"], "images": 43}
PICKED |= {"attack": attacks("apgd"), "attacks": attacks("pgd")}

# (rule, what its wildcards are beside those of the checkpoint, inputs, params)
JOBS = [
    (
        "prepare_data",
        {},
        {"images": []},
        {
            "settings": {
                **{"source": "digits", "train": 150, "validation": 230, "test": 70},
                **{"split_seed": 3, "download": False, "noise": 0.2, "samples": 3000},
                **{"on_bad_image": "stop", **dict.fromkeys(("mean", "std", "file", "folder"))},
                **{"also": {}, **dict.fromkeys(("channels", "classes", "size"))},
            }
        },
    ),
    (
        "train",
        {"epoch": "1"},
        {"data": DATA, "previous": [], "weights": [], "chosen": [], "errors": []},
        {"settings": training("standard"), "own": {}, "weights_key": None},
    ),
    (
        "train",
        {"epoch": "3"},
        {
            **{"data": DATA, "weights": [], "chosen": [], "errors": []},
            "previous": [CHECKPOINT.replace("epoch-3", "epoch-1/checkpoint.pt")],
        },
        {"settings": training("standard"), "own": {}, "weights_key": None},
    ),
    (
        "train",
        LASTING,
        {
            **{"data": DATA, "previous": [], "weights": []},
            **{"chosen": [TUNED.format("lasting")], "errors": [ERRORS.format(6)]},
        },
        {"settings": training("lasting"), "own": {}, "weights_key": None},
    ),
    (
        "tune",
        {"training": "hard"},
        {"data": DATA, "taken": [], "errors": []},
        {
            "settings": training("hard"),
            "tune": {"attack": "fgsm", "grid": {"lr": [0.002, 0.004]}, "seeds": [7, 8]}
            | {"towards": None},
            "epochs": 1,
            "attack": attacks("fgsm"),
        },
    ),
    (
        "tune",
        LASTING,
        {"data": DATA, "taken": [TUNED.format("hard")], "errors": [*map(ERRORS.format, (8, 9))]},
        {
            "settings": training("lasting"),
            "tune": {"attack": "pgd", "grid": {"regularisation.gamma": [0.1, 0.5]}}
            | {"seeds": [8, 9], "towards": None},
            "epochs": 3,
            "attack": attacks("pgd"),
        },
    ),
    ("attack", {"attack": "pgd"}, OPENED, {"attack": attacks("pgd")["pgd"]}),
    (
        "craft",
        {"attack": "pgd"},
        OPENED,
        {"attack": attacks("pgd")["pgd"], "images": 212, "split": "validation"},
    ),
    ("evaluate_robustness", {}, OPENED, {"attacks": attacks("apgd")}),
    (
        "stress",
        {"stress": "dull", "split": "test"},
        {"data": DATA},
        {"settings": {"kind": "contrast", "severities": [2, 5], "options": {}}},
    ),
    (
        "judge_stresses",
        {},
        OPENED | {"stressed": ["results/digits/stresses/dull/test.pt"]},
        {"names": ["dull"]},
    ),
    (
        "compress",
        {},
        OPENED,
        {
            "layers": ["conv1", "fc"],
            "bits": [6, 3],
            "inputs": True,
            "scales": "layer",
            "prune": [0.35],
        }
        | {"loss": 0.055, "confidence": 0.9},
    ),
    (
        "analyse_sustainability",
        {},
        OPENED,
        {
            "attacks": attacks("fgsm"),
            "settings": {
                **{"at": "layer", "split": "validation", "images": 41},
                "noises": {"salt": {"kind": "salt", "strength": 0.06}},
            },
        },
    ),
    (
        "list_vulnerable",
        {},
        {"errors": "sustainability/errors.npz"},
        {"eta": 0.35, "eta_grid": [-0.4, 0.1, 0.35], "confidence": 0.9},
    ),
    ("ablate_layer", {"layer": "fc"}, SWEPT, SYNAPTIC),
    ("ablate_global", {}, SWEPT, SYNAPTIC | {"limits": [-0.2, 0.3]}),
    (
        "ablate_filters",
        {"layer": "conv3", "first": "20", "last": "31"},
        SWEPT,
        {"sets": SETS, "at": "activation"},
    ),
    (
        "ablate_own",
        {"layer": "conv1", "ablation": "halve"},
        SWEPT,
        {"sets": SETS, "ablation": {"function": GIVEN["ablations"]["halve"]["function"]}},
    ),
    (
        "score",
        {},
        {
            "local": [f"layers/{layer}/synaptic-filtering.npz" for layer in ("conv3", "fc")],
            **{"all_layers": ["global/synaptic-filtering.npz"], "nodal": FILTERS},
        },
        {"baseline": "kept_fraction", "integration": "simpson", "confidence": 0.9},
    ),
    *(
        ("classify", {"unit": unit}, {"scores": f"scores/{unit}.tsv"}, {"tau": tau})
        for unit, tau in GIVEN["classes"]["tau"].items()
    ),
    (
        "target_filters",
        {},
        OPENED | {"adversarial": ["attacks/pgd/adversarial.pt"]},
        {
            **{"layers": ["conv3"], "attacks": ["pgd"], "images": 212, "split": "validation"},
            "at": "output",
        },
    ),
    (
        "choose_gains",
        {},
        OPENED,
        {
            **{"layers": ["conv1", "conv2"], "at": "activation", "strengths": [0.2, 0.6]},
            **{"policies": ["fragile", "random-0", "random-1"], "attacks": attacks("fgsm")},
        },
    ),
    *(
        (
            "remedy",
            {"policy": policy},
            OPENED | {"gains": "remedy/gains.tsv"},
            {"attacks": attacks("fgsm")},
        )
        for policy in ("none", "fragile", "random-0", "random-1")
    ),
    ("retrain", {"policy": "regular"}, RETRAINED | {"classes": []}, POLICY | {"choice": {}}),
    *(
        (
            "retrain",
            {"policy": policy},
            RETRAINED | {"classes": ["classes/layers.tsv"]},
            POLICY | {"choice": CHOICE},
        )
        for policy in POLICIES[1:]
    ),
    (
        "retrain",
        LASTING | {"policy": "regular"},
        OPENED | {"chosen": [TUNED.format("lasting")], "errors": [ERRORS.format(6)], "classes": []},
        POLICY | {"choice": {}, "training": training("lasting")},
    ),
    *(
        (
            "mend",
            {"candidate": name},
            OPENED
            | {"layers": ["classes/layers.tsv"] * (name == "picked"), "filters": []}
            | {"stressed": []},
            {
                **{"stresses": [], "faults": {}},
                **{"candidate": name, "own": {"function": name}, "training": training("standard")},
                **{"attack": attacks("pgd")["pgd"], "choice": {"attack": "pgd"}},
                "settings": {"rates": [0.006, 0.012], "shares": [0.55, 1], "batch_size": 35}
                | {"epochs": 2, "clean_loss": 0.045},
            },
        )
        for name in ("picked", "harden")
    ),
    (
        "judge_mends",
        {},
        OPENED
        | {
            "weights": [],
            "networks": ["mended/picked/network.pt", "mended/harden/network.pt"],
            "paths": ["mended/picked/path.tsv", "mended/harden/path.tsv"],
            "stressed": [],
        },
        {
            **{"stresses": [], "faults": {}, "under": []},
            **{"names": ["picked", "harden"], "attacks": attacks("fgsm", "pgd")},
            **{"abouts": {name: CANDIDATES[name].about for name in ("picked", "harden")}},
            **{"clean_loss": 0.045, "confidence": 0.9, "weights_key": None},
        },
    ),
    (
        "sweep_mended",
        {},
        OPENED
        | {
            "result": "mended/result.tsv",
            "networks": ["mended/picked/network.pt", "mended/harden/network.pt"],
            **{"chosen": [], "adversarial": []},
        },
        {
            **{"names": ["picked", "harden"], "sets": SETS | {"transferred": [], "stressed": {}}},
            "settings": {
                **{"filters": ["pulse", "high_pass"], "thresholds": 6, "random_draws": 2},
                **{"layers": ["conv3", "fc"], "stored": attacks("fgsm", "pgd")},
                "scores": {"baseline": "kept_fraction", "integration": "simpson"}
                | {"confidence": 0.9},
                "tau": {"S_adv": 0.012, "S_clean": 0.011, "S_diff": 0.013},
            },
        },
    ),
    (
        "perturb_layer",
        {"layer": "fc"},
        SWEPT,
        {
            **{"sets": SETS, "where": PLACE, "tops": [1]},
            "perturbations": {
                **{"kinds": ["synapse_knockout", "gaussian"], "parameters": ["weight"]},
                "rates": [1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2],
                **{"shares": [0.7], "sigmas": [0.5], "repeats": 2},
            },
        },
    ),
    (
        "score_perturbations",
        {},
        {"facts": [f"layers/{layer}/perturbations.npz" for layer in ("conv1", "conv2", "fc")]},
        {"network_layers": NETWORK, "ends": 0.3, "almost_chance": 0.15, "confidence": 0.9},
    ),
    (
        "judge_criteria",
        {},
        OPENED | {"weights": []},
        {
            **{"layers": ["conv2", "fc"], "methods": GIVEN["criteria"]["methods"]},
            **{"own": [{"function": name} for name in GIVEN["criteria"]["methods"]]},
            **{"attack": attacks("apgd"), "images": 43, "draws": 2, "weights_key": None},
        },
    ),
    (
        "gather_criteria",
        {},
        {
            **{"judged": "criteria/judged.tsv", "layers": ["scores/layers.tsv"]},
            **{"filters": ["scores/filters.tsv"], "perturbed": ["perturbations/layers.tsv"]},
            "probes": ["sustainability/probes.tsv"],
        },
        {"layers": ["conv2", "fc"], "attack": "apgd"},
    ),
    (
        "remove_units",
        {"layer": "fc"},
        OPENED | {"adversarial": [], "chosen": []},
        {
            "sets": {
                **{"images": 47, "split": "test", "transferred": [], "stressed": {}},
                "recrafted": attacks("pgd"),
            },
            "most": 5,
        },
    ),
    (
        "train_picked",
        {"recipe": "standard", "criterion": "fisher"},
        OPENED | {"criteria": ["criteria.tsv"], "chosen": [], "shifted": []},
        PICKED | {"ranked": {"criterion": "fisher", "lowest": True}},
    ),
    (
        "train_picked",
        {"recipe": "standard", "criterion": "fisher_opposite"},
        OPENED | {"criteria": ["criteria.tsv"], "chosen": [], "shifted": []},
        PICKED | {"ranked": {"criterion": "fisher", "lowest": False}},
    ),
    (
        "train_picked",
        {"recipe": "standard", "criterion": "matched-0"},
        OPENED | {"criteria": ["criteria.tsv"], "chosen": [], "shifted": []},
        PICKED | {"ranked": {"criterion": "fisher", "lowest": True}},
    ),
    *(
        (
            "train_picked",
            {"recipe": "standard", "criterion": criterion},
            OPENED | {"criteria": [], "chosen": [], "shifted": []},
            PICKED | {"ranked": {"criterion": "", "lowest": False}},
        )
        for criterion in ("none", "full", "random-0", "random-1")
    ),
    (
        "craft_examples",
        {"seed": "5"},
        OPENED | {"filters": ["classes/filters.tsv"], "facts": FILTERS, "chosen": []},
        {
            **{"attacks": attacks("apgd", "fgsm", "pgd"), "images": 212, "split": "validation"},
            "at": "activation",
        },
    ),
]

SURE = {"confidence": 0.9}
SETTINGS = {
    "accuracy": {"attacks": attacks("apgd", "fgsm", "pgd"), "judges": ["fgsm", "pgd"]}
    | {"masking": 11, **SURE},
    "robustness": {"bases": {"lasting": "hard"}, "published": [], "one_step": ["fgsm"], **SURE},
    "stresses": SURE,
    "compression": {},
    "sustainability": {},
    "synaptic": {"network_layers": {"small_conv": NETWORK}},
    "fragile": {"permutations": 101, **SURE},
    "perturbations": SURE,
    "criteria": {
        **{"top_share": 0.4, "permutations": 103, **SURE, "tests": [["fisher", "matched"]]},
    },
    "own": SURE,
    "retraining": SURE | {"tests": []},
    "mending": SURE,
    "examples": {},
    "map": {"attack": "pgd"} | SURE,
}
"""What the tables of each study are made with."""

SOURCES = {
    "accuracy": {
        **{
            name: [("attack", name), ("evaluate_robustness", name)]
            for name in ("accuracy", "checks", "correct")
        },
        "history": [("train", "history", {"epoch": "3", "seed": ("5", "6")})],
    },
    "robustness": {
        "accuracy": [("tabulate_accuracy", "accuracy")],
        "tuning": [("tune", "candidates")],
    },
    "sustainability": {
        "probes": [("list_vulnerable", "probes")],
        "lists": [("list_vulnerable", "lists")],
    },
    "synaptic": {
        **{name: [("score", name)] for name in ("base", "baselines", "curves")},
        **{
            unit: [("classify", "classes", {"unit": unit})]
            for unit in ("layers", "filters", "bands")
        },
    },
    "fragile": {
        "filters": [("classify", "classes", {"unit": "filters"})],
        **{name: [("target_filters", name)] for name in ("targeting", "kernels")},
        **{name: [("choose_gains", name)] for name in ("gains", "strengths")},
        "correct": [("remedy", "correct")],
    },
    "perturbations": {
        name: [("score_perturbations", name)] for name in ("curves", "layers", "headline", "depth")
    },
    "criteria": {
        "criteria": [("gather_criteria", "criteria")],
        "removals": [("remove_units", "facts")],
        **{name: [("train_picked", name)] for name in ("result", "correct")},
    },
    "stresses": {
        "correct": [("judge_stresses", "correct")],
        "about": [("stress", "about", {"split": "test"})],
    },
    "compression": {name: [("compress", name)] for name in ("alone", "together")},
    "own": {"ablations": [("ablate_own", "facts")]},
    "retraining": {name: [("retrain", name)] for name in ("result", "correct")},
    "mending": {"path": [("mend", "path")]}
    | {name: [("judge_mends", name)] for name in ("result", "bought", "correct")}
    | {"layers": [("sweep_mended", "layers")]},
    "examples": {name: [("craft_examples", name)] for name in ("examples", "lost")},
    "map": {
        **{name: [("map_network", name)] for name in ("graph", "norms")},
        "layers": [("tabulate_synaptic", "layers")],
        "perturbed": [("tabulate_perturbations", "perturbation_layers")],
        "errors": [("tabulate_sustainability", "sustainability")],
        "targeting": [("tabulate_fragile", "targeting")],
        "compression": [("tabulate_compression", "compression")],
    },
}
"""Study -> input of its tables -> the rules, outputs and perhaps wildcards of what these are."""

LAST = [(name, seed, "3") for name in ("hard", "lasting", "standard") for seed in "56"]
ALL = sorted([*LAST, *(("standard", seed, "1") for seed in "56")])
TUNING = [("standard", seed, epoch) for seed in "89" for epoch in "13"]
MORE = {
    "stress": {"stress": ["dull"], "split": ["test"]},
    "attack": {"attack": ["fgsm", "pgd"]},
    "craft": {"attack": ["fgsm", "pgd"]},
    "ablate_layer": {"layer": ["conv3", "fc"]},
    "ablate_filters": {"layer": ["conv3", "fc"], "last": ["19", "31", "9"]},
    "ablate_own": {"layer": ["conv1"], "ablation": ["halve"]},
    "classify": {"unit": ["bands", "filters", "layers"]},
    "perturb_layer": {"layer": ["conv1", "conv2", "fc"]},
    "remedy": {"policy": ["fragile", "none", "random-0", "random-1"]},
    "retrain": {"policy": sorted(POLICIES)},
    "mend": {"candidate": ["harden", "picked"]},
    "remove_units": {"layer": ["conv2", "fc"]},
    "train_picked": {"recipe": ["standard"], "criterion": sorted({*CRITERIA, "random-0"})},
}
PLACES = {
    **{"train": sorted(ALL + TUNING), "analyse_sustainability": sorted([*LAST, *TUNING[1::2]])},
    **dict.fromkeys(("attack", "craft", "ablate_layer", "ablate_global", "ablate_filters"), ALL),
    **dict.fromkeys(("score", "classify"), ALL),
    **dict.fromkeys(("list_vulnerable", "evaluate_robustness", "target_filters"), LAST),
    **dict.fromkeys(("choose_gains", "remedy", "retrain", "perturb_layer"), LAST),
    **dict.fromkeys(("score_perturbations", "judge_criteria", "gather_criteria"), LAST),
    **dict.fromkeys(("remove_units", "train_picked", "ablate_own", "mend"), LAST),
    **dict.fromkeys(("judge_mends", "sweep_mended", "judge_stresses"), LAST),
    "compress": LAST,
    "craft_examples": [("standard", "5", "3")],
    "tune": [("hard", None, None), ("lasting", None, None)],
    **{rule: [(None, None, None)] for rule in ("prepare_data", "map_network", "stress")},
}
"""Rule -> training, seed, epoch of the checkpoints that it works on; MORE: its other wildcards."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Copy:
    return copy_workflow(tmp_path_factory.mktemp("values") / "run", CONFIG)


@pytest.fixture(scope="module")
def planned(copy) -> list[dict]:
    return jobs(copy)


def chosen(planned, rule, **wildcards) -> list[dict]:
    return [
        job
        for job in planned
        if job["rule"] == rule
        and all(job["wildcards"][name] in value for name, value in wildcards.items())
    ]


def plain(value):
    """With numbers and lists as JSON has them."""
    return json.loads(json.dumps(value))


@pytest.mark.parametrize(
    ("rule", "wildcards", "given", "params"),
    JOBS,
    ids=["-".join([rule, *wildcards.values()]) for rule, wildcards, *_ in JOBS],
)
def test_a_script_is_handed_these_values_and_files(planned, rule, wildcards, given, params):
    jobs = [job for job in planned if job["rule"] == rule]
    place = {k: v for k, v in (PLACE | wildcards).items() if k in jobs[0]["wildcards"]}
    (job,) = [job for job in jobs if job["wildcards"] == place]
    known = {k: v for k, v in job["params"].items() if k not in ("code", "device")}
    if rule == "ablate_own":
        known["ablation"] = dict(known["ablation"])
        assert known["ablation"].pop("code")
        assert known["ablation"].pop("options") == {}
    assert known == plain(params)
    assert job["params"].get("device", "auto") == "auto"
    folder = CHECKPOINT.replace("seed-6/epoch-3", "seed-{seed}/epoch-{epoch}")
    folder = folder.replace("standard", "{training}").format(**PLACE | wildcards)

    def path(name):
        return name if name.startswith("results/") else f"{folder}/{name}"

    expected = {
        key: [*map(path, files)] if isinstance(files, list) else path(files)
        for key, files in given.items()
    }
    assert job["input"] == expected


def test_a_job_on_a_cluster_is_handed_the_same(copy, planned):
    """Of every rule a job, as the Snakemake that a cluster starts for it knows it."""
    first = {job["rule"]: job for job in reversed(planned) if job["rule"] != "all"}
    assert len(first) > 30
    targets = [
        f"{rule}:{','.join(f'{name}={value}' for name, value in job['wildcards'].items())}"
        for rule, job in first.items()
    ]
    as_there = ("--mode", "remote", "--force", "--nolock", "--target-files-omit-workdir-adjustment")
    there = jobs(copy, *as_there, "--target-jobs", *targets)
    assert {job["rule"] for job in there} == {*first}
    for job in there:
        assert job in planned, job["rule"]


@pytest.mark.parametrize("study", STUDIES)
def test_tables_are_made_with_these_settings_of_these_files(planned, study):
    (job,) = chosen(planned, f"tabulate_{study}")
    assert job["params"]["study"] == study
    assert job["params"]["settings"] == plain(SETTINGS[study])
    files = {
        name: sorted(
            made["output"][output]
            for rule, output, *wildcards in parts
            for made in chosen(planned, rule, **(wildcards[0] if wildcards else {}))
        )
        for name, parts in SOURCES[study].items()
    }
    given = {k: sorted([v] if isinstance(v, str) else v) for k, v in job["input"].items()}
    assert given == files
    assert all(given.values())


def test_every_rule_works_on_these_checkpoints(planned):
    known = {job["rule"] for job in planned} - {"all", "report"}
    assert known - {f"tabulate_{study}" for study in STUDIES} == {*PLACES}
    for rule, expected in PLACES.items():
        jobs, names = chosen(planned, rule), ("training", "seed", "epoch")
        found = {tuple(job["wildcards"].get(name) for name in names) for job in jobs}
        assert found == {*expected}, rule
        more = {name: {job["wildcards"][name] for job in jobs} for name in MORE.get(rule, {})}
        assert more == {name: {*values} for name, values in MORE.get(rule, {}).items()}, rule
        each = 3 if rule == "ablate_filters" else math.prod(map(len, MORE.get(rule, {}).values()))
        assert len(jobs) == len(expected) * each, rule


def test_a_fault_map_is_of_the_last_checkpoints_and_a_report_of_all_tables(planned):
    (mapped,), (report,) = chosen(planned, "map_network"), chosen(planned, "report")
    last = sorted(
        f"results/digits/small_conv/{training}/seed-{seed}/epoch-{epoch}/checkpoint.pt"
        for training, seed, epoch in LAST
    )
    assert mapped["input"]["data"] == DATA
    assert sorted(mapped["input"]["checkpoints"]) == last
    tables = [chosen(planned, f"tabulate_{study}")[0]["output"].values() for study in STUDIES]
    assert sorted(report["input"]["tables"]) == sorted(file for some in tables for file in some)
    assert report["params"]["config"]["retraining"]["score"] == "S_diff"


def test_images_chosen_by_margin_and_one_set_for_all_ablated_networks(planned, tmp_path):
    ours = {"choose": "margin", "target": "base", "attacks": ["fgsm", "pgd"], "images": 212}
    ours["stresses"] = {"dull": 5}
    mending = {key: value for key, value in GIVEN["mending"].items() if key != "judged_under"}
    more = {"loud": {"kind": "brightness", "epochs": [3]}}
    config = GIVEN | {"ablation": ours, "mending": mending | {"under": ["dull"]}}
    use = GIVEN["criteria"]["use"] | {"recipes": ["standard@loud", "at-pgd", "standard@labels"]}
    config |= {"criteria": GIVEN["criteria"] | {"use": use}}
    config = yaml.safe_dump(config | {"stresses": GIVEN["stresses"] | more})
    planned = jobs(copy_workflow(tmp_path / "run", config))
    sets = SETS | {"recrafted": {}, "stressed": {"dull": 5}}
    chosen_by_margin = f"{CHECKPOINT}/chosen-images.npz"
    here = {"training": "standard", "seed": "6", "epoch": "3"}
    (job,) = chosen(planned, "choose_images", **here)
    stored = [f"{CHECKPOINT}/{file}" for file in STORED["adversarial"]]
    stored.append("results/digits/stresses/dull/validation.pt")
    given = {"data": DATA, "checkpoint": f"{CHECKPOINT}/checkpoint.pt", "adversarial": stored}
    assert job["input"] == given and job["output"] == {"chosen": chosen_by_margin}
    assert job["params"]["sets"] == plain(sets)
    for rule in ("ablate_layer", "ablate_global", "ablate_filters", "ablate_own", "perturb_layer"):
        for job in chosen(planned, rule, **here):
            assert job["params"]["sets"] == plain(sets), rule
            assert job["input"]["chosen"] == [chosen_by_margin], rule
            assert job["input"]["adversarial"] == stored, rule
    (mend,) = chosen(planned, "mend", candidate=["picked"], **here)
    splits = [f"results/digits/stresses/dull/{split}.pt" for split in ("train", "validation")]
    assert mend["input"]["stressed"] == splits and mend["params"]["stresses"] == ["dull"]
    assert mend["params"]["choice"] == {"attack": "dull"} and mend["params"]["attack"] == {}
    (judge,) = chosen(planned, "judge_mends", **here)
    both = [f"results/digits/stresses/{name}/test.pt" for name in ("dull", "loud")]
    assert judge["input"]["stressed"] == both and judge["params"]["stresses"] == ["dull", "loud"]
    assert judge["params"]["under"] == ["dull"] and judge["params"]["attacks"] == {}
    shifts = {"standard@loud": ["train", "validation", "test"], "standard@labels": [], "at-pgd": []}
    for recipe, splits in shifts.items():
        (train,) = chosen(planned, "train_picked", recipe=[recipe], criterion=["full"], **here)
        files = [f"results/digits/stresses/loud/{split}.pt" for split in splits]
        assert train["input"]["shifted"] == files
        assert bool(train["params"]["attacks"]) == (recipe == "at-pgd")
    (examples,) = chosen(planned, "craft_examples")
    assert examples["input"]["chosen"] == [chosen_by_margin.replace("seed-6", "seed-5")]
    assert {job["params"]["images"] for job in chosen(planned, "craft")} == {None}  # the split
    assert chosen(planned, "remove_units", **here)[0]["input"]["chosen"] == []
    (retrained,) = chosen(planned, "retrain", policy=["selective"], **here)
    assert retrained["params"]["choice"] == CHOICE | {"attack": "pgd transfer"}
    (mapped,) = chosen(planned, "tabulate_map")
    assert mapped["params"]["settings"] == {"attack": "pgd transfer"} | SURE


def test_the_values_of_every_rule_are_said_here(planned):
    said = {rule for rule, *_ in JOBS} | {f"tabulate_{study}" for study in STUDIES}
    assert {*RULES} - said == {"report", "map_network", "choose_images"}
