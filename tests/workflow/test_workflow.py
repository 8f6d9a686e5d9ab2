"""The workflow as a whole: what it announces, makes, remakes, and what it survives."""

import ast
import functools
import importlib.util
import os
import re
import subprocess
import sys
from collections import Counter
from importlib.metadata import packages_distributions

import pytest
import yaml
from support import ROOT, RULES, Copy, add_statement, copy_code, copy_workflow, fingerprints, ran
from trainings import assert_same_bits

from faultline.base.files import load_table, load_tensors
from faultline.base.fingerprint import PACKAGE
from faultline.base.paths import place_of
from faultline.networks.facts import networks
from faultline.snake.records import beside
from faultline.studies.order import FINDINGS, SECTIONS, STUDIES, described, functions

CONFIGS = ["config.yaml", *(f"configs/{p.name}" for p in sorted((ROOT / "configs").glob("*.yaml")))]
FILES = ("output", "log")
TABULATES = {f"tabulate_{study}" for study in STUDIES}
MAKES = {
    **{"synaptic": "score", "retraining": "retrain", "perturbations": "perturb_layer"},
    **{"sustainability": "list_vulnerable", "map": "map_network", "own": "ablate_own"},
    **{"examples": "craft_examples"},
}
"""Study -> a rule that makes what it tabulates."""
# rules that the tiny run does without, see test_tuning and below
SEARCH = {"tune", "evaluate_robustness", "choose_images"}
SEARCH |= {"stress", "judge_stresses", "tabulate_stresses", "compress", "tabulate_compression"}


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Run a linter on the checkout, or skip where it is not installed."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed (requirements-dev.txt)")
    return ran([sys.executable, "-m", name, *arguments], ROOT)


# What is announced


@pytest.mark.parametrize(
    "config", [pytest.param(c, marks=[pytest.mark.slow] * (c != "config.yaml")) for c in CONFIGS]
)
def test_dry_run_names_every_layer_and_needs_no_torch(config, tmp_path):
    copy = copy_workflow(tmp_path / "run", config="")
    for module in ("torch", "torchvision"):  # Python looks there first
        stub = copy.folder / module / "__init__.py"
        stub.parent.mkdir(parents=True)
        stub.write_text(f"raise ImportError('{module} imported while the workflow is parsed')\n")
    settings = yaml.safe_load((ROOT / config).read_text(encoding="utf-8"))
    settings["seeds"] = settings["seeds"][:1]  # a whole grid takes Snakemake half a minute
    for training in settings["trainings"].values():
        if len(training["epochs"]) > 5:
            training["epochs"] = training["epochs"][-1:]
    (copy.folder / config).write_text(yaml.safe_dump(settings), encoding="utf-8")
    jobs = copy.announced("--configfile", config)

    swept = settings.get("synaptic_filtering", {}).get("layers", "all")
    swept = [] if swept == "none" else swept
    for network in settings["networks"]:
        found = {
            place_of(path)["layer"]
            for job in jobs
            if job["rule"].startswith("ablate_layer") and job["wildcards"]["network"] == network
            for path in job["output"]
        }
        layers = {name for name, *_ in networks()[network]["layers"]}
        assert found == layers if swept == "all" else found <= layers
    made = {job["rule"] for job in jobs}
    assert {"prepare_data", "train", "report", "tabulate_accuracy", "tabulate_robustness"} <= made
    for study, rule in MAKES.items():  # no study that is not run has tables
        assert (f"tabulate_{study}" in made) == (rule in made), study
    assert made & {"attack", "evaluate_robustness"}
    if not swept and settings.get("nodal_dropout", {}).get("layers") == "none":
        assert not made & {"score", "classify", "ablate_filters"}  # there is nothing to score


# What a run makes


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> list[dict]:
    """Every job of the tiny run."""
    return copy_workflow(tmp_path_factory.mktemp("jobs") / "run").announced()


def used(log: str) -> str:
    """The table of what a job took, beside its log."""
    return f"{log.removesuffix('.log')}.used.tsv"


def test_a_run_makes_everything_and_then_nothing(finished, rerun, jobs):
    assert {job["rule"] for job in jobs} == set(RULES) - SEARCH
    asked = {job["log"][0]: job["mem_mb"] for job in finished.announced("--forceall")}
    for job in jobs:
        for path in job["output"] + job["log"]:
            assert (finished.folder / path).is_file(), path
        (log,) = job["log"]
        assert "error:" not in (finished.folder / log).read_text(encoding="utf-8")
        (took,) = load_table(finished.folder / used(log)).to_dict("records")
        assert took["rule"] == job["rule"] and took["device"] == "cpu"
        assert took["threads"] == (2 if job["rule"] == "report" else 1)
        assert took["start"] <= took["end"] and took["cpu_seconds"] > 0
        assert 10 < took["peak_mb"] < asked[log]
    known = {path for job in jobs for key in FILES for path in job[key]}
    known |= {str(beside(path)) for job in jobs for path in job["output"]}
    known |= {used(log) for job in jobs for log in job["log"]}
    known |= {"results/run.html", "results/files.tsv"}
    # where test images bear a mend out, which no plan can say
    known |= {path.replace(".md", ".pt") for path in known if path.endswith("/mended.md")}
    files = {p.relative_to(finished.folder) for p in finished.files("results")}
    there = {str(path) for path in files if ".kept" not in path.parts}
    assert known - there <= {path for path in known if path.endswith("/mended.pt")}
    assert there <= known  # no unfinished and no temporary file is left

    results = finished.folder / "results"
    html = (results / "report.html").read_text(encoding="utf-8")
    assert html.lstrip().lower().startswith("<!doctype html") and html.rstrip().endswith("</html>")
    assert yaml.safe_load((results / "config.resolved.yaml").read_text(encoding="utf-8"))
    for table in (results / "tables").glob("*.tsv"):
        assert len(load_table(table)), f"{table.name} is empty"
    for table in described():
        assert (f"tables/{table}.tsv" in html) == (results / f"tables/{table}.tsv").exists()

    assert "Nothing to be done" in rerun.run("--cores", "2")


@pytest.mark.slow
def test_snakemake_report(rerun):
    rerun.run("--report", "page.html")
    page = (rerun.folder / "page.html").read_text(encoding="utf-8")
    assert "prepare_data" in page and "report.html" in page
    for shown in ("The page of the run", "One of the tables of the study robustness", "Tables"):
        assert shown in page
    tables = described()
    assert tables["accuracy"] in page and tables["curves"] not in page  # these can be large


def test_images_chosen_by_margin_are_shared_by_all_sweeps_of_a_checkpoint(tmp_path):
    copy = copy_workflow(tmp_path / "run")
    config = copy.config()
    config["ablation"] |= {"choose": "margin", "images": 150}
    copy.configure(config)
    jobs = copy.announced()
    assert counts(jobs)["choose_images"] == 2
    for job in jobs:
        chosen = [path for path in job["input"] if path.endswith("/chosen-images.npz")]
        sweeps = job["rule"].startswith("ablate_")
        sweeps |= job["rule"] in ("perturb_layer", "craft_examples", "sweep_mended")
        assert len(chosen) == sweeps, job["rule"]
        assert all(f"/epoch-{job['wildcards']['epoch']}/" in path for path in chosen)


# How it is written


@pytest.mark.slow
def test_snakemake_has_no_limit_of_jobs_per_second(fresh):
    """It would make it choose jobs ever more often."""
    with (fresh.folder / "Snakefile").open("a", encoding="utf-8") as snakefile:
        snakefile.write('\nonsuccess:\n    print("limit:", workflow.scheduler.job_rate_limiter)\n')
    assert "limit: None" in fresh.run("--cores", "1", "results/digits/data.pt")


def test_there_are_as_many_rules_as_scripts():
    scripts = {path.stem for path in (ROOT / "workflow").glob("*.py")}
    for_users = {"compare", "kept"}
    assert set(RULES) - TABULATES == scripts - {"tabulate_study"} - for_users


def test_no_script_hides_a_module():
    """Their folder comes first where Python looks, in whatever torch imports too."""
    known = {*sys.stdlib_module_names, *packages_distributions()}
    assert not known & {path.stem for path in (ROOT / "workflow").glob("*.py")}


def test_every_study_has_a_rule_file_and_its_folder():
    folders = {path.parent.name for path in (PACKAGE / "studies").glob("*/__init__.py")}
    assert set(STUDIES) == folders
    rules = {path.stem for path in (ROOT / "rules").glob("*.smk")}
    assert rules == folders | {"common", "data", "train", "report"}
    named = {name.split(".")[0] for name in (*SECTIONS, *FINDINGS)}
    assert named == folders | {"advice"} and all(map(callable, functions((*SECTIONS, *FINDINGS))))


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_complete(rule):
    block = RULES[rule]
    assert block.startswith('    """')  # what `snakemake --list` says of it
    inherits = rule in TABULATES - {"tabulate_accuracy"}
    own = () if inherits else ("resources", "conda")
    for directive in ("output", "log", "params", *own):
        assert re.search(rf"^    {directive}:", block, flags=re.MULTILINE), directive
    for resource in () if inherits else ("mem_mb", "runtime"):
        assert re.search(rf"^        {resource}=", block, flags=re.MULTILINE), resource
    study = rule.removeprefix("tabulate_")
    script = "tabulate_study" if rule in TABULATES else rule
    assert inherits or f'script:\n        "../workflow/{script}.py"' in block
    if rule in TABULATES:
        assert f'code=code("tabulate_study", "faultline/studies/{study}/tables")' in block
        assert f'study="{study}"' in block and re.search(rf'\*\*tables\(\s*"{study}"', block)
    else:
        assert re.search(rf'code=code\(\s*"{rule}"', block)
    if "device=" in block:  # what can use a GPU asks for one
        assert "gpu=GPU" in block


def test_conda_environment_has_the_pins_of_pip():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pins = {line for line in text.splitlines() if line and line[0] not in "#-"}
    environment = yaml.safe_load((ROOT / "envs/faultline.yaml").read_text(encoding="utf-8"))
    (pip,) = (d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert set(pip) == pins
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9a-z.]+", pin) for pin in pins)


def test_snakemake_lint(fresh):
    said = fresh.run("--lint")
    assert "Lints for" not in said, said


@pytest.mark.parametrize(
    "command",
    [
        *("ruff check .", "ruff format --check .", "snakefmt --check Snakefile rules"),
        pytest.param("mypy", marks=pytest.mark.slow),  # half a minute
    ],
)
def test_linters_find_nothing(command):
    done = tool(*command.split())
    assert done.returncode == 0, done.stdout


# What a change remakes. Each test changes a finished run and asks a dry run.


def on(*studies: str) -> dict[str, int]:
    """The report again, with the tables of some studies, and of the map that is made of theirs."""
    mapped = {"synaptic", "fragile", "perturbations", "sustainability"} & {*studies}
    studies = {*studies} | ({"map"} if mapped else set())
    return {f"tabulate_{study}": 1 for study in studies} | {"report": 1}


EXAMPLES = {"craft_examples": 1} | on("examples")  # at the last epoch only
PICKED = {"train_picked": 2} | on("criteria")  # of two criteria; the others go by none
TRAINED_ON = {"train_picked": 5}
GATHERED = {"gather_criteria": 1} | PICKED  # at the last epoch only
JUDGED = {"judge_criteria": 1} | GATHERED
REMOVED = {"remove_units": 2} | on("criteria")
PERTURBATIONS_ON = {"score_perturbations": 1} | on("perturbations") | GATHERED
RETRAINED = {"retrain": 4} | on("retraining")
AGAIN = {"sweep_mended": 1} | on("mending")
MENDED = {"mend": 2, "judge_mends": 1} | AGAIN
BY_CLASS = {"retrain": 3, "mend": 1, "judge_mends": 1} | AGAIN | on("retraining")
"""`regular` retraining and the candidate `harden` need no classes."""
CLASSES_ON = {"classify": 6} | BY_CLASS | on("synaptic", "fragile") | EXAMPLES
CLASSES_OF = {
    "layers": {"classify": 2} | MENDED | {"mend": 1} | on("synaptic"),
    "filters": {"classify": 2} | on("synaptic", "fragile") | EXAMPLES,
    "bands": {"classify": 2} | RETRAINED | {"retrain": 3} | on("synaptic"),
}
SCORES_ON = {"score": 2} | CLASSES_ON | GATHERED
ABLATIONS = {"ablate_layer": 4, "ablate_global": 2, "ablate_filters": 2}
PERTURBED = {"perturb_layer": 2} | PERTURBATIONS_ON  # at the last epoch only
ATTACKED = {"attack": 4} | on("accuracy", "robustness")
TARGETING = {"target_filters": 2} | on("fragile")
STORED = {"craft": 2} | TARGETING  # under pgd, for targeting alone
LISTS_ON = {"list_vulnerable": 1} | on("sustainability") | GATHERED
SUSTAINABILITY = {"analyse_sustainability": 1} | LISTS_ON  # at the last epoch only
REMEDY = {"choose_gains": 1, "remedy": 3} | on("fragile")
OWN = {"ablate_own": 1} | on("own")  # at the last epoch only
MAP = {"map_network": 1} | on("map")
SWEEPS_ON = ABLATIONS | PERTURBED | OWN | SCORES_ON
EVERYTHING_ON = SWEEPS_ON | STORED | REMEDY | SUSTAINABILITY | RETRAINED | JUDGED | REMOVED
EVERYTHING_ON |= TRAINED_ON | MENDED


def counts(jobs: list[dict]) -> dict[str, int]:
    """Jobs of each rule."""
    return dict(Counter(job["rule"] for job in jobs))


def values(jobs: list[dict], key: str) -> dict[str, set[str]]:
    """Rule -> values of one wildcard in its jobs; rules without this wildcard are left out."""
    found = {}
    for job in jobs:
        if key in job["wildcards"]:
            found.setdefault(job["rule"], set()).add(job["wildcards"][key])
    return found


def test_touching_remakes_nothing(rerun):
    for path in ("Snakefile", "config.yaml", "rules", "workflow", "envs", "profiles"):
        root = rerun.folder / path
        for file in [root, *root.rglob("*")]:
            os.utime(file)
    assert counts(rerun.announced()) == {}


def test_comments_and_docstrings_remake_nothing(rerun):
    sources = sorted((rerun.folder / "workflow").rglob("*.py"))
    assert len(sources) > 20
    for file in sources:
        lines = file.read_text(encoding="utf-8").splitlines()
        functions = [n for n in ast.walk(ast.parse("\n".join(lines))) if type(n) is ast.FunctionDef]
        for first in sorted((f.body[0] for f in functions), key=lambda n: -n.lineno):
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                lines[first.lineno - 1] = lines[first.lineno - 1].replace('"""', '"""Anew: ', 1)
            elif isinstance(first, ast.Return | ast.Assign):
                lines.insert(first.lineno - 1, " " * first.col_offset + '"""Said anew."""')
        text = "\n".join(lines).replace('"""', '"""Put otherwise: ', 1)
        file.write_text(f"# A remark.\n{text}\n# Another.\n", encoding="utf-8")
    for file in [rerun.folder / "Snakefile", *(rerun.folder / "rules").iterdir()]:
        file.write_text("# A remark.\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    assert counts(rerun.announced()) == {}


@pytest.mark.slow
def test_order_of_keys_remakes_nothing(rerun):
    def turned(value):
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return value

    config = rerun.config()
    rerun.configure(turned(config))
    assert list(rerun.config()["attacks"]) == ["pgd", "fgsm"]
    assert counts(rerun.announced()) == {}


@pytest.mark.slow
def test_defaults_spelled_out_remake_nothing(rerun):
    config = rerun.config()
    config["scores"] = {"confidence": 0.95, "baseline": "random"}
    config["trainings"]["standard"]["lr"] = 0.001
    rerun.configure(config)
    assert counts(rerun.announced()) == {}


@pytest.mark.slow
def test_where_and_how_much_is_kept_remakes_nothing(rerun):
    config = rerun.config()
    config["keep"] = {"folder": "elsewhere", "gb": 0}
    rerun.configure(config)
    assert counts(rerun.announced()) == {}


@pytest.mark.parametrize("unit", CLASSES_OF)
def test_another_tau_remakes_the_classes_of_its_unit_and_what_reads_them(rerun, unit):
    config = rerun.config()
    config["classes"] = {"tau": {unit: {"S_adv": 0.2}}}
    rerun.configure(config)
    again = rerun.announced()
    assert counts(again) == CLASSES_OF[unit]
    assert values(again, "unit") == {"classify": {unit}}
    assert "regular" not in values(again, "policy").get("retrain", ())


@pytest.mark.slow
def test_layers_may_be_shared_out_over_jobs_otherwise(rerun):
    rerun.edit("config.yaml", "thresholds: 3", "thresholds: 3, layers_per_job: 2")
    assert counts(rerun.announced()) == {"report": 1}  # it shows the config
    lost, other = (
        f"results/digits/small_conv/standard/seed-0/epoch-1/layers/{layer}/synaptic-filtering.npz"
        for layer in ("conv1", "fc")
    )
    before = [(rerun.folder / file).read_bytes() for file in (lost, other)]
    (rerun.folder / lost).unlink()
    (again,) = rerun.announced(lost)
    assert again["rule"] == "ablate_layers_small_conv_1" and set(again["output"]) == {lost, other}
    rerun.run("--cores", "1", lost)
    assert [(rerun.folder / file).read_bytes() for file in (lost, other)] == before


@pytest.mark.slow
def test_another_confidence_remakes_what_is_computed_from_facts(rerun):
    config = rerun.config()
    config["scores"] = {"confidence": 0.9}
    rerun.configure(config)
    intervals = on("accuracy", "own", "robustness")
    assert counts(rerun.announced()) == SCORES_ON | PERTURBATIONS_ON | LISTS_ON | intervals


@pytest.mark.slow
def test_other_limits_of_perturbations_remake_what_is_computed_from_facts(rerun):
    config = rerun.config()
    config["perturbations"] |= {"almost_chance": 0.2, "ends": 0.2}
    rerun.configure(config)
    assert counts(rerun.announced()) == PERTURBATIONS_ON


@pytest.mark.slow
def test_another_eta_remakes_the_lists_only(rerun):
    config = rerun.config()
    config["sustainability"] |= {"eta": 0.7, "eta_grid": [0, 1]}
    rerun.configure(config)
    assert counts(rerun.announced()) == LISTS_ON


@pytest.mark.slow
def test_another_noise_remakes_the_analysis(rerun):
    config = rerun.config()
    config["sustainability"]["noises"] = {"dust": {"kind": "pepper", "strength": 0.1}}
    rerun.configure(config)
    assert counts(rerun.announced()) == SUSTAINABILITY


def test_another_eps_remakes_its_attack_only(rerun):
    config = rerun.config()
    config["attacks"]["fgsm"]["eps"] = 0.2
    rerun.configure(config)
    again = rerun.announced()
    assert counts(again) == ATTACKED | {"attack": 2} | EXAMPLES
    assert values(again, "attack") == {"attack": {"fgsm"}}


@pytest.mark.slow
def test_another_eps_of_the_ablation_attack_remakes_what_follows(rerun):
    config = rerun.config()
    config["attacks"]["pgd"]["eps"] = 0.2
    rerun.configure(config)
    sets = ATTACKED | {"attack": 2} | STORED | REMEDY | SUSTAINABILITY
    again = rerun.announced()
    assert counts(again) == SWEEPS_ON | RETRAINED | MENDED | sets | JUDGED | REMOVED | TRAINED_ON
    assert values(again, "attack") == {"attack": {"pgd"}, "craft": {"pgd"}}


@pytest.mark.parametrize(("target", "stored"), [("ablated", 0), ("base", 2), ("both", 2)], ids=str)
def test_who_is_attacked_remakes_the_sweeps(rerun, target, stored):
    config = rerun.config()
    config["ablation"]["target"] = target
    config["targeting"] = {"layers": "none"}
    rerun.configure(config)
    again = counts(rerun.announced())
    assert again.get("craft", 0) == 0  # what is stored is there, for targeting
    assert again.get("ablate_layer", 0) == 2 * stored


def test_a_further_epoch_remakes_no_earlier_one(rerun):
    config = rerun.config()
    config["trainings"]["standard"]["epochs"] = [1, 2, 3]
    rerun.configure(config)
    new = {rule: count // 2 for rule, count in ABLATIONS.items()} | PERTURBED | OWN
    new |= JUDGED | REMOVED | TRAINED_ON
    new |= {"train": 1, "attack": 2, "craft": 1, "target_filters": 1, "score": 1, "classify": 3}
    new |= EXAMPLES | MAP  # its norms are of last checkpoints
    earlier = {"retraining", "mending", "sustainability"}  # of an epoch that was there
    earlier |= {"stresses", "compression"}  # which the tiny run does without
    again = rerun.announced()
    assert counts(again) == new | on(*{*STUDIES} - earlier)
    assert set().union(*values(again, "epoch").values()) == {"3"}


@pytest.mark.slow
def test_an_epoch_left_out_at_the_end_remakes_only_the_tables(rerun):
    config = rerun.config()
    config["trainings"]["standard"]["epochs"] = [1]
    for section in ("retraining", "remedy", "mending"):
        config[section]["from_epochs"] = []
    for section in (
        config["sustainability"],
        config["criteria"],
        config["perturbations"],
        config["ablations"]["halve"],
    ):
        section["epochs"] = []
    config["ablation"]["split"] = "validation"  # as before, though no class chooses any more
    rerun.configure(config)
    left = {*STUDIES} - {"retraining", "perturbations", "sustainability", "own", "criteria"}
    left -= {"mending", "stresses", "compression"}
    assert counts(rerun.announced()) == on(*left) | MAP | EXAMPLES


@pytest.mark.slow
def test_what_is_switched_off_leaves_no_table_and_is_named(rerun):
    """Where a study is, and where one of several of its tables is; then both again."""
    tables, config = rerun.folder / "results/tables", rerun.config()
    before = {path.name: path.read_bytes() for path in tables.iterdir()}
    off = {"retraining": {"from_epochs": []}, "remedy": {"layers": "none"}}
    off |= {"ablation": config["ablation"] | {"split": "validation"}}  # as before
    rerun.configure(config | off)
    rerun.run("--cores", "2")
    gone = {f"{name}.tsv" for name in ("retraining", "comparison", "gains", "strengths", "remedy")}
    gone |= {beside(name).name for name in gone}
    assert {path.name for path in tables.iterdir()} == before.keys() - gone
    page = (rerun.folder / "results/report.html").read_text(encoding="utf-8")
    assert 'id="retraining"' not in page and "tables/remedy.tsv" not in page
    assert "Retraining compared (<code>retraining.from_epochs</code>)" in page
    assert "Nothing to be done" in rerun.run("--cores", "1")
    rerun.configure(config)
    rerun.run("--cores", "2")
    assert {path.name: path.read_bytes() for path in tables.iterdir()} == before


@pytest.mark.slow
def test_an_epoch_left_out_before_others_trains_the_longer_segment(rerun):
    config = rerun.config()
    config["trainings"]["standard"]["epochs"] = [2]
    rerun.configure(config)
    again = rerun.announced()
    found = values(again, "epoch")
    assert counts(again)["train"] == 1 and "prepare_data" not in counts(again)
    assert set().union(*found.values()) == {"2"}


@pytest.mark.slow
def test_a_further_seed_remakes_no_other(rerun):
    config = rerun.config()
    config["seeds"] = [0, 1]
    rerun.configure(config)
    again = rerun.announced()
    first = {"craft_examples", "tabulate_examples"}  # of the first seed only
    assert set(counts(again)) == set(RULES) - SEARCH - {"prepare_data"} - first
    assert set().union(*values(again, "seed").values()) == {"1"}


@pytest.mark.slow
def test_a_further_network_remakes_no_other(rerun):
    config = rerun.config()
    config["networks"] = ["small_conv", "small_resnet"]
    config["synaptic_filtering"]["layers"] = ["conv1", "fc"]
    rerun.configure(config)
    assert set().union(*values(rerun.announced(), "network").values()) == {"small_resnet"}


CHANGES = {
    "studies/synaptic/figures.class_map": {"report": 1},
    "report/render.render": {"report": 1},
    "studies/fragile/section.remedy": {"report": 1},
    "studies/own/section.section": {"report": 1},
    "studies/synaptic/classes.invariances": on("synaptic"),
    "studies/synaptic/classes.classify": CLASSES_ON,
    "studies/synaptic/scores.filter_scores": SCORES_ON,
    "studies/own/scores.accuracy_changes": on("own"),
    "ablation/plugins.own_variants": OWN,
    "studies/retraining/frozen.frozen": RETRAINED,
    "studies/mending/mended.mend_by": MENDED,
    "studies/mending/judging.verdict_on": {"judge_mends": 1} | AGAIN,
    "studies/mending/swept.swept": AGAIN,
    "studies/mending/tables.compared": on("mending"),
    "studies/mending/section.section": {"report": 1},
    # recipes train against it
    "attacks/ascent.pgd": {"train": 2} | ATTACKED | EVERYTHING_ON | MAP,
    "studies/sustainability/analysis.analyse": SUSTAINABILITY | MENDED,
    "studies/sustainability/lists.list_table": LISTS_ON,
    "studies/sustainability/lists.agreement": on("sustainability"),
    "studies/sustainability/section.section": {"report": 1},
    "ablation/graph.graph": MAP,
    "studies/map/drawing.fault_map": {"report": 1},
    "studies/map/measures.layer_correlations": on("map"),
    "studies/robustness/section.section": {"report": 1},
    "studies/robustness/scores.differences": on("robustness"),
    "attacks/selfchecks.checks": ATTACKED,
    "ablation/sweep.sweep": SWEEPS_ON | REMEDY | REMOVED | MENDED,
    "studies/criteria/gradient.fisher": JUDGED,
    "studies/criteria/earlier.earlier": GATHERED,
    "studies/criteria/removal.removal_variants": REMOVED,
    "studies/criteria/agreement.predictions": on("criteria"),
    "studies/criteria/picked.picked": PICKED | TRAINED_ON,
    "studies/criteria/use.gains": on("criteria"),
    "studies/criteria/section.section": {"report": 1},
    "studies/perturbations/variants.perturbed": PERTURBED,
    "studies/perturbations/scores.depth_test": PERTURBATIONS_ON,
    "ablation/variants.nodal_variants": {"ablate_filters": 2}
    | SCORES_ON
    | REMEDY
    | REMOVED
    | MENDED,
    "studies/fragile/targeting.kernels": TARGETING,
    "studies/fragile/fragility.overlaps": on("fragile"),
    "studies/fragile/remedy.gains": REMEDY | MENDED,
    "training/epochs.train_epochs": {"train": 2} | ATTACKED | EVERYTHING_ON | MAP,
}
"""Function of the library -> jobs of each rule that a change of it remakes."""


def followers(jobs: list[dict], rules: set[str]) -> dict[str, int]:
    """Jobs of each rule that run again where the code of some rules is another."""
    again, before = [], None
    while len(again) != before:
        before, made = len(again), {path for job in again for path in job["output"]}
        again = [job for job in jobs if job["rule"] in rules or made & {*job["input"]}]
    return counts(again)


@functools.cache
def fingerprints_of_the_checkout() -> dict[str, str]:
    return fingerprints(ROOT / "workflow")


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_library_remakes_the_stages_that_use_it(jobs, tmp_path, change):
    changed = copy_code(tmp_path / "workflow")
    add_statement(changed, *change.split("."))
    before, after = fingerprints_of_the_checkout(), fingerprints(changed)
    again = {rule for rule in RULES if after[rule] != before[rule]}
    assert followers(jobs, again) == CHANGES[change]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", ["report/render.render", "studies/synaptic/classes.classify", "attacks/ascent.pgd"]
)
def test_a_dry_run_remakes_what_fingerprints_say(rerun, change):
    add_statement(rerun.folder / "workflow", *change.split("."))
    assert counts(rerun.announced()) == CHANGES[change]


def test_a_change_of_a_script_remakes_its_stage(rerun):
    rerun.edit("workflow/classify.py", "with job(snakemake):", "with job(snakemake):\n    _ = 1")
    assert counts(rerun.announced()) == CLASSES_ON


@pytest.mark.slow
def test_the_template_of_the_report_remakes_the_report(rerun):
    template = rerun.folder / "workflow/faultline/report/report.html.j2"
    template.write_text(template.read_text(encoding="utf-8") + "<!-- more -->\n", encoding="utf-8")
    assert counts(rerun.announced()) == {"report": 1}


# What is kept of earlier runs

KEPT = {
    path.stem
    for path in (ROOT / "workflow").glob("*.py")
    if "kept=True" in path.read_text(encoding="utf-8")
}


def took(copy: Copy) -> dict[str, tuple]:
    """Log -> (rule, start, whether it was found) of every job of a run."""
    rows = {}
    for path in copy.files("results/logs"):
        if path.name.endswith(".used.tsv"):
            (row,) = load_table(path).to_dict("records")
            rows[str(path)] = (row["rule"], row["start"], bool(row["found"]))
    return rows


@pytest.mark.slow
def test_a_setting_switched_back_finds_the_earlier_results(finished, faster, tmp_path):
    """Another learning rate and back; an eps and tau and back; then a training is forced."""
    rerun = faster.duplicate(tmp_path / "run")
    before = {
        rerun.folder / path.relative_to(finished.folder): path.read_bytes()
        for path in finished.files("results/digits")
    }
    first = {
        log.replace(str(finished.folder), str(rerun.folder)): row
        for log, row in took(finished).items()
    }
    config, there = finished.config(), took(rerun)
    assert not any(found for *_, found in there.values())
    changed = {rule for log, (rule, start, _) in there.items() if start != first[log][1]}
    assert changed == set(RULES) - SEARCH - {"prepare_data"}

    rerun.configure(config)
    rerun.run("--cores", "2")
    back = {row for log, row in took(rerun).items() if row[1] != there[log][1]}
    assert {rule for rule, *_ in back} == changed
    assert {rule for rule, _, found in back if found} == KEPT & changed
    assert {rule for rule, _, found in back if not found} == changed - KEPT
    for path, content in before.items():
        assert path.read_bytes() == content, path
    assert "Nothing to be done" in rerun.run("--cores", "1")

    place = "digits/small_conv/standard/seed-0/epoch-1"
    accuracy = f"results/{place}/attacks/fgsm/accuracy.tsv"
    targets = [accuracy, f"results/{place}/classes/bands.tsv"]
    rerun.configure(
        config
        | {
            "attacks": config["attacks"] | {"fgsm": {"method": "fgsm", "eps": 0.2}},
            "classes": {"tau": {"bands": {"S_adv": 0.3}}},
        }
    )
    rerun.run("--cores", "1", *targets)
    assert all(
        (rerun.folder / path).read_bytes() != before[rerun.folder / path] for path in targets
    )
    rerun.configure(config)
    rerun.run("--cores", "1", *targets)
    assert all(
        (rerun.folder / path).read_bytes() == before[rerun.folder / path] for path in targets
    )

    logs = [
        str(rerun.folder / f"results/logs/{place}/{name}.used.tsv")
        for name in ("train", "attack-fgsm")
    ]
    assert all(took(rerun)[log][2] for log in logs)
    rerun.run("--cores", "1", "--forcerun", "train", "--", accuracy)
    assert not any(took(rerun)[log][2] for log in logs)  # nor what follows
    (rerun.folder / accuracy).unlink()
    rerun.run("--cores", "1", accuracy)
    assert [took(rerun)[log][2] for log in logs] == [False, True]


# Chains and interruptions

CHAINS = """
datasets:
  digits: {train: 200, validation: 50, test: 60}
networks: [small_conv]
trainings:
  chain: {batch_size: 50, epochs: [1, 3]}
  direct: {batch_size: 50, epochs: [3]}
  whole: {batch_size: 10, epochs: [40]}
  killed: {batch_size: 10, epochs: [40]}
  lost: {batch_size: 10, epochs: [40]}
attacks: {fgsm: {method: fgsm, eps: 0.1}}
retraining: {from_epochs: []}
"""


def checkpoint(training: str, epoch: int) -> str:
    return f"results/digits/small_conv/{training}/seed-0/epoch-{epoch}/checkpoint.pt"


@pytest.fixture
def chains(shared, tmp_path) -> Copy:
    """Trainings of the same network in one go, in segments, and not yet at all."""

    def make(folder):
        wanted = [checkpoint("chain", 3), checkpoint("direct", 3), checkpoint("whole", 40)]
        copy_workflow(folder, CHAINS).run("--cores", "2", *wanted)

    return shared("chains", make).duplicate(tmp_path / "run")


@pytest.mark.slow
def test_a_chain_gives_the_bits_of_one_run(chains):
    chain, direct = (
        load_tensors(chains.folder / checkpoint(name, 3), "a checkpoint")
        for name in ("chain", "direct")
    )
    assert chain["epoch"] == direct["epoch"] == 3
    assert_same_bits(chain["network"], direct["network"])
    assert_same_bits(chain["optimizer"], direct["optimizer"])
    assert_same_bits(chain["history"], direct["history"])


@pytest.mark.slow
@pytest.mark.parametrize("training", ["killed", "lost"])
def test_a_killed_training_goes_on_where_it_was(chains, training):
    target = checkpoint(training, 40)
    everything = training == "lost"
    chains.interrupt(target, everything=everything)
    if everything:  # a killed Snakemake leaves its lock behind
        refused = chains.snakemake("--cores", "1", target)
        assert refused.returncode != 0 and "--unlock" in refused.stdout
        chains.run("--unlock")
    chains.run("--cores", "1", target)

    log = chains.folder / f"results/logs/digits/small_conv/{training}/seed-0/epoch-40/train.log"
    assert re.search(r"^resuming after epoch [1-9]", log.read_text(), flags=re.MULTILINE)
    whole = chains.folder / checkpoint("whole", 40)
    assert (chains.folder / target).read_bytes() == whole.read_bytes()
    assert not (chains.folder / f"{target}.partial").exists()


def test_no_name_of_the_rules_hides_one_of_snakemake():
    """Snakefiles run among the names of Snakemake's own module, which it goes on using."""
    import snakemake.api  # or its modules import each other in a circle
    from snakemake import workflow

    found = set()
    for file in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]:
        text = file.read_text(encoding="utf-8")
        names = r"^ {0,4}(?:(\w+) = |def (\w+)|for (\w+) in )"
        found |= {name for some in re.findall(names, text, flags=re.M) for name in some}
    allowed = {"", "report", "config"}  # ours are local, or what it is meant to be
    assert snakemake.api and not found & set(vars(workflow)) - allowed
