"""The report: one self-contained HTML page from the tables of a run. No files, no torch."""

import importlib.metadata
import platform
from collections.abc import Iterator

import jinja2
import numpy as np
import pandas as pd
import yaml

from faultline import (
    page,
    plots,
    reporting_fragile,
    reporting_own,
    reporting_perturbations,
    reporting_robustness,
    reporting_sustainability,
)
from faultline.checks import CHECK_MEANINGS

MAX_RANKED_LAYERS = 4
MAX_ACCURACIES = 8
MAX_TRAININGS = 6  # named together, else counted

PACKAGES = [
    *("torch", "torchvision", "snakemake", "numpy", "pandas", "scipy", "scikit-learn"),
    "matplotlib",
]
TABLES = {
    "accuracy": "accuracy of every checkpoint under every attack and eps",
    "checks": "self-checks of the attacks",
    "history": "loss and accuracy of every training epoch",
    "curves": "accuracy over the threshold of every synaptic filter, layer by layer and globally",
    "layers": "scores and classes of the layers",
    "filters": "scores and classes of single filters (nodal dropout)",
    "bands": "scores and classes of the pulse bands of each layer's weights",
    "retraining": "accuracy after retraining, per policy and seed",
    "comparison": "retraining policies less regular, with intervals",
    "invariance": "how far layers keep their class over seeds, epochs, data sets and networks",
    **reporting_fragile.TABLES,
    **reporting_perturbations.TABLES,
    **reporting_sustainability.TABLES,
    **reporting_robustness.TABLES,
    **reporting_own.TABLES,
}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, without importing them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def resolved_config(config: dict, *, versions: dict[str, str]) -> str:
    """The whole config as YAML, with a comment line that names the versions."""
    line = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"# faultline, resolved config; {line}\n" + yaml.safe_dump(config, sort_keys=True)


def render(
    tables: dict[str, pd.DataFrame], *, config: dict, versions: dict[str, str], template: str
) -> str:
    """The page, as HTML; the same input gives the same bytes.

    tables: those of `TABLES`, each possibly empty, as aggregated over a run. config: the resolved
    one. template: the text of the Jinja template.
    """
    tables = {name: _plain(tables[name]) for name in TABLES}
    sections = [
        _classes(tables, config),
        *reporting_robustness.sections(tables, config),
        _robustness(tables, config),
        _thresholds(tables, config),
        _scores(tables, config),
        _filters(tables, config),
        *reporting_fragile.sections(tables, config),
        _bands(tables, config),
        *reporting_perturbations.sections(tables, config),
        *reporting_sustainability.sections(tables, config),
        *reporting_own.sections(tables, config),
        _retraining(tables, config),
        _invariance(tables),
        _training(tables),
        _checks(tables),
    ]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(template).render(
        title=f"faultline: {', '.join(config['datasets'])}",
        what=_what_was_run(tables, config),
        findings=_findings(tables, config),
        sections=sections,
        config=yaml.safe_dump(config, sort_keys=True),
        versions=versions,
        seeds=", ".join(map(str, config["seeds"])),
        tables=[(f"{config['results'].rstrip('/')}/tables/{n}.tsv", t) for n, t in TABLES.items()],
    )


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Names as text, whatever they look like."""
    names = [c for c in [*page.RUN, "layer", "attack", "policy", "images"] if c in table]
    return table.astype(dict.fromkeys(names, str)) if len(table) else table


# At a glance


def _what_was_run(tables: dict, config: dict) -> str:
    alike = {}  # trainings with the same checkpoints, by what is said of them
    for name, settings in config["trainings"].items():
        said = f"{_given(settings)}checkpoints at epochs {page.listed(settings['epochs'])}"
        alike.setdefault(said, []).append(name)
    trained = "; ".join(
        (f"as {page.listed(names)}" if len(names) <= MAX_TRAININGS else f"in {len(names)} ways")
        + f" ({said})"
        for said, names in alike.items()
    )
    n = page.images(tables["accuracy"])
    chosen, target = page.listed(config["ablation"]["attacks"]), config["ablation"]["target"]
    crafted = {
        "base": "crafted once on each checkpoint and reused on its ablated networks",
        "ablated": "crafted anew on each ablated network",
    }[target]
    seeds, swept = config["seeds"], page.images(tables["layers"])
    judged = n if swept in (n, "no test images") else f"{n} (scores: {swept})"
    return (
        f"{page.count(config['networks'], 'network')} ({page.listed(config['networks'])}) on "
        f"{page.count(config['datasets'], 'data set')} ({page.listed(config['datasets'])}), "
        f"trained {trained}, {page.count(seeds, 'seed')} ({page.listed(seeds)}), "
        f"judged on {judged}. "
        f"Attacks: {page.listed(config['attacks'])}. For the scores, adversarial images of "
        f"{chosen} were {crafted}."
    )


def _given(training: dict) -> str:
    given = training.get("weights")
    return f"from given weights of {page.listed(given)}, which all seeds share; " if given else ""


def _findings(tables: dict, config: dict) -> list[tuple[str, str]]:
    return [
        *_accuracy_findings(tables["accuracy"], config),
        *reporting_robustness.findings(tables, config),
        *_layer_findings(tables["layers"], config),
        *_decided_findings(tables["layers"]),
        *reporting_fragile.findings(tables, config),
        *reporting_perturbations.findings(tables, config),
        *reporting_sustainability.findings(tables, config),
        *reporting_own.findings(tables, config),
        *_retraining_findings(tables, config),
        ("Self-checks", _check_sentence(tables["checks"])),
    ]


def _accuracy_findings(accuracy: pd.DataFrame, config: dict) -> Iterator[tuple[str, str]]:
    runs = [*page.runs(accuracy)]
    if len(runs) > MAX_ACCURACIES:
        yield "Accuracy", f"That of {len(runs)} trainings is in the figures below."
        return
    for run, part in runs:
        part = plots.last_epoch(part)
        texts = []
        for name, settings in config["attacks"].items():
            at = part[(part["attack"] == name) & np.isclose(part["eps"], settings["eps"])]
            if len(at):
                where = f"{name} (eps {settings['eps']:g}, {settings['norm']})"
                texts.append(f"{page.span(at['accuracy'])} under {where}")
        clean = part[part["eps"] == 0].groupby("seed")["accuracy"].first()
        spread = "mean over seeds, lowest to highest in brackets" if len(clean) > 1 else "one seed"
        yield (
            f"Accuracy, {run}",
            f"{page.span(clean)} clean; {'; '.join(texts)} (epoch {part['epoch'].max()}, "
            f"{spread}).",
        )


def _layer_findings(layers: pd.DataFrame, config: dict) -> Iterator[tuple[str, str]]:
    for run, part in page.runs(layers):
        part = plots.last_epoch(part)
        part = part[(part["scope"] == "local") & (part["filter"] == "combined")]
        attack = config["retraining"]["attack"]
        rows = part[(part["score"] == "S_adv") & (part["attack"] == attack)]
        prefix, what = "", f"S_adv ({attack})"
        if rows["value"].isna().all():
            prefix = "S_adv is undefined here (no adversarial image is classified correctly). "
            rows, what = part[part["score"] == "S_clean"], "S_clean"
        if not len(rows):
            continue
        groups = rows.assign(sure=rows["decided"] & (rows["class"] == "fragile")).groupby("layer")
        found = pd.DataFrame({"mean": groups["value"].mean(), "sure": groups["sure"].all()})
        found = found.sort_values("mean", kind="stable")
        fragile, total = found[found["sure"]], len(found)
        seeds = rows["seed"].nunique()
        every = f"in every one of {seeds} seeds" if seeds > 1 else "in the one seed"
        if len(fragile):
            names = [f"{layer} ({plots.signed(m)})" for layer, m in fragile["mean"].head(5).items()]
            more = f" and {len(fragile) - 5} more" if len(fragile) > 5 else ""
            text = (
                f"{len(fragile)} of {total} layers are fragile by {what}, decided {every}, "
                f"the most fragile first: {', '.join(names)}{more}."
            )
        else:
            lowest = found["mean"].first_valid_index()
            text = f"No layer of {total} is fragile by {what}, decided {every}"
            text += (
                "."
                if lowest is None
                else f"; the lowest score is that of {lowest} "
                f"({plots.signed(found.loc[lowest, 'mean'])})."
            )
        yield f"Fragile layers, {run}", prefix + text


def _decided_findings(layers: pd.DataFrame) -> Iterator[tuple[str, str]]:
    if not len(layers):
        yield "Classes", "No layer was filtered, so there are no classes of layers."
        return
    parts = pd.concat([plots.last_epoch(part) for _, part in page.runs(layers)])
    parts = parts[(parts["scope"] == "local") & (parts["filter"] == "combined")]
    judged = parts[~parts["class"].isin(["untouched", "undefined"])]
    without = len(parts) - len(judged)
    text = (
        f"{judged['decided'].sum()} of {len(judged)} classes of layers at the last epoch are "
        f"decided ({page.percent(judged['decided'].mean())}): the interval of the score lies "
        "within the class."
    )
    if without:
        text += f" {without} more are untouched or undefined."
    yield "Decided", text


def _retraining_findings(tables: dict, config: dict) -> Iterator[tuple[str, str]]:
    comparison = tables["comparison"]
    if not len(comparison):
        yield "Retraining", "No retraining was run."
        return
    shares = _frozen(tables["retraining"])
    for run, part in page.runs(comparison):
        part = plots.last_epoch(part)
        of_run = page.of(shares, part)
        of_run = of_run[of_run["epoch"] == part["epoch"].max()]
        texts = page.compared_sets(
            part,
            "selective",
            policy="selective",
            reference="regular",
            control="random freezing",
            confidence=config["scores"]["confidence"],
        )
        start = (
            f"{page.epochs(config['retraining']['epochs'])} on from epoch {part['epoch'].max()}; "
            f"{config['scores']['confidence']:.0%} intervals in brackets. {_note(of_run)}"
        )
        yield f"Selective retraining, {run}", start + " ".join(texts)


def _check_sentence(checks: pd.DataFrame) -> str:
    if not len(checks):
        return "No self-check was made."
    warnings = (checks["status"] == "warning").sum()
    if not warnings:
        return f"All {len(checks)} checks of the attacks passed."
    return f"{warnings} of {len(checks)} checks of the attacks gave a warning; see below."


# Sections


def _tau(config: dict, unit: str) -> str:
    tau = config["classes"]["tau"][unit]
    return ", ".join(f"{score} {tau[score]:g}" for score in ("S_clean", "S_adv", "S_diff"))


def _choices(config: dict, unit: str) -> str:
    return (
        f"Ours: tau ({_tau(config, unit)}) and the baseline ({config['scores']['baseline']}); "
        f"intervals are at {config['scores']['confidence']:.0%} over test images."
    )


def _no_sweep(config: dict) -> str:
    if config["synaptic_filtering"]["layers"] == "none":
        return "No layer was filtered: synaptic_filtering.layers is none."
    return "There are no scores of layers in this run."


def _classes(tables: dict, config: dict) -> dict:
    blocks = []
    for index, (run, part) in enumerate(page.runs(tables["layers"])):
        last = plots.last_epoch(part)
        figure = page.figure(
            plots.class_map(part),
            name=f"classes-{index}",
            alt=f"Classes of the layers of {run}, by score and seed",
            caption=f"Classes at epoch {last['epoch'].max()}, by the mean of the synaptic filters "
            f"(combined). {page.n(last)}.",
            read="One cell is one layer of one seed. Strong colours are decided, pale ones with a "
            "question mark are not: their interval reaches into another class.",
        )
        chosen = last[last["filter"] == "combined"]
        numbers = pd.DataFrame(
            {
                "layer": chosen["layer"],
                "score": chosen["score"] + page.suffix(chosen["attack"]),
                "seed": chosen["seed"],
                "value": [page.number(v) for v in chosen["value"]],
                "interval": [page.bracket(r) for r in chosen[["ci_low", "ci_high"]].to_numpy()],
                "q-value": [page.small(q) for q in chosen["q_value"]],
                "class": chosen["class"],
                "decided": np.where(chosen["decided"], "yes", "no"),
            }
        )
        table = page.table("The numbers", numbers, source="layers.tsv")
        blocks.append(page.block(run, figures=[figure], tables=[table]))
    return page.section(
        "classes",
        "The classes at a glance",
        intro="A layer is fragile where removing its weights, threshold by threshold, costs more "
        "relative accuracy than tau, antifragile where it gains more than tau, robust between, and "
        "untouched where no weight or no output changed. S_clean is about clean images, S_adv "
        "about "
        "adversarial ones, S_diff is their difference. " + _choices(config, "layers"),
        blocks=blocks,
        empty=_no_sweep(config),
    )


def _robustness(tables: dict, config: dict) -> dict:
    norms = {name: settings["norm"] for name, settings in config["attacks"].items()}
    blocks = []
    for index, (run, part) in enumerate(page.runs(tables["accuracy"])):
        figure = page.figure(
            plots.robustness_curves(part, norms=norms),
            name=f"robustness-{index}",
            alt=f"Accuracy against eps for {run}, by attack and epoch",
            caption=f"Test accuracy under attack. {page.n(part)}; thick: mean over seeds, "
            "thin: each seed.",
            read="The line starts at the clean accuracy (eps 0); the sooner it falls, the less "
            "robust the network. eps of different norms cannot be compared.",
        )
        last = plots.last_epoch(part)
        wide = last.pivot_table(index=["attack", "eps"], columns="seed", values="accuracy")
        numbers = wide.map(page.percent).rename(columns=lambda s: f"seed {s}").reset_index()
        numbers["eps"] = [f"{eps:g}" for eps in numbers["eps"]]
        title = f"Accuracy at epoch {last['epoch'].max()}"
        table = page.table(title, numbers, source="accuracy.tsv")
        blocks.append(page.block(run, figures=[figure], tables=[table]))
    return page.section(
        "robustness",
        "Robustness curves",
        intro="Accuracy of each checkpoint under attacks of growing size. Every attack is "
        "crafted on "
        "the very network that it is tried on. eps is in " + _units(config),
        blocks=blocks,
        empty="No attack was run.",
    )


def _units(config: dict) -> str:
    attacks = config["attacks"].items()
    normalised = [name for name, settings in attacks if settings["normalised_units"]]
    if normalised:
        return f"pixel units, but in normalised units, not clipped, for {page.listed(normalised)}."
    return "the units of the data (pixels: 0 to 1)."


def _thresholds(tables: dict, config: dict) -> dict:
    blocks = []
    for index, (run, part) in enumerate(page.runs(tables["curves"])):
        last = plots.last_epoch(part)
        count = last["layer"].nunique()
        notes = []
        if count > plots.MAX_PANELS:
            notes.append(
                f"The first {plots.MAX_PANELS} of {count} panels are shown; all are in curves.tsv."
            )
        if not (last["scope"] == "global").any():
            notes.append("There is no global sweep in this run (synaptic_filtering.global).")
        band = (
            "band: range over seeds" if len(last["seed"].unique()) > 1 else "one seed, so no band"
        )
        figure = page.figure(
            plots.threshold_curves(part),
            name=f"thresholds-{index}",
            alt=f"Accuracy over the threshold of the synaptic filters, by layer, for {run}",
            caption=f"Accuracy under synaptic filters at epoch {last['epoch'].max()}. "
            f"{page.n(last)}; line: mean over seeds; {band}.",
            read="The threshold goes from the layer's smallest weight (0) to its largest (1). "
            "high_pass removes all weights up to it, low_pass all from it on, pulse those around "
            "it. "
            "A layer whose lines stay on the dotted base accuracy is not missed.",
        )
        blocks.append(page.block(run, figures=[figure], notes=notes))
    return page.section(
        "thresholds",
        "Threshold curves",
        intro="What the scores are computed from: accuracy while the weights of one layer are "
        "removed. The global sweep filters all layers at once, over one range of weights.",
        blocks=blocks,
        empty=_no_sweep(config),
    )


def _scores(tables: dict, config: dict) -> dict:
    blocks = []
    for index, (run, part) in enumerate(page.runs(tables["layers"])):
        notes = []
        if len(part["epoch"].unique()) == 1:
            notes.append("There is one checkpoint epoch only, so nothing develops here.")
        if (undefined := (part["class"] == "undefined").mean()) > 0:
            notes.append(
                f"{page.percent(undefined)} of the scores are undefined: the base network "
                "classifies no image of the set correctly."
            )
        figure = page.figure(
            plots.score_map(part),
            name=f"scores-{index}",
            alt=f"Scores of the layers of {run} at every checkpoint epoch",
            caption="Scores (combined over the synaptic filters), mean over seeds. "
            f"{page.n(part)}.",
            read="Orange: accuracy is lost when the layer is filtered; blue: it is gained; both "
            "colours share one scale, centred at 0.",
        )
        blocks.append(page.block(run, figures=[figure], notes=notes))
    return page.section(
        "scores",
        "Scores over layers and epochs",
        intro="How the score of each layer develops as the network trains. "
        + _choices(config, "layers"),
        blocks=blocks,
        empty=_no_sweep(config),
    )


def _filters(tables: dict, config: dict) -> dict:
    blocks = []
    for index, (run, part) in enumerate(page.runs(tables["filters"])):
        last = plots.last_epoch(part)
        names = list(dict.fromkeys(last["layer"]))
        notes, figures = [], []
        if len(names) > MAX_RANKED_LAYERS:
            notes.append(
                f"The first {MAX_RANKED_LAYERS} of {len(names)} layers are shown; all are in "
                "filters.tsv."
            )
        for layer in names[:MAX_RANKED_LAYERS]:
            of_layer = last[last["layer"] == layer]
            count = of_layer["filter"].nunique()
            if count > plots.MAX_FILTERS:
                notes.append(
                    f"{layer} has {count} filters: the {plots.MAX_FILTERS // 2} lowest and the "
                    f"{plots.MAX_FILTERS // 2} highest by S_clean are shown."
                )
            figures.append(
                page.figure(
                    plots.filter_ranking(of_layer),
                    name=f"filters-{index}-{layer}",
                    alt=f"Filters of {layer} of {run}, ranked by S_clean",
                    caption=f"{layer}: its {count} filters at epoch {last['epoch'].max()}, one "
                    "removed "
                    f"at a time. {page.n(of_layer)}; bars: {config['scores']['confidence']:.0%} "
                    "intervals "
                    "over images, paired.",
                    read="Left is what the network misses most. The panels of one row share their "
                    "order, so a matching slope means that clean and adversarial accuracy depend "
                    "on "
                    "the same filters. Hollow markers are not decided.",
                )
            )
        blocks.append(page.block(run, figures=figures, notes=notes))
    return page.section(
        "filters",
        "Filters ranked",
        intro="Nodal dropout: each filter of a layer removed on its own "
        f"(at: {config['nodal_dropout']['at']}). The score is the relative change of accuracy. "
        f"Ours: tau ({_tau(config, 'filters')}).",
        blocks=blocks,
        empty="No filter was removed on its own: nodal_dropout.layers is none.",
    )


def _bands(tables: dict, config: dict) -> dict:
    attack, blocks = config["retraining"]["attack"], []
    for index, (run, part) in enumerate(page.runs(tables["bands"])):
        last = plots.last_epoch(part)
        chosen = last[(last["score"] == "S_adv") & (last["attack"] == attack)]
        if not len(chosen):
            continue
        if chosen["value"].isna().all():
            note = (
                f"S_adv ({attack}) is undefined: the base network classifies no adversarial image "
                "correctly."
            )
            blocks.append(page.block(run, notes=[note]))
            continue
        figure = page.figure(
            plots.band_split(part, score="S_adv", attack=attack),
            name=f"bands-{index}",
            alt=f"Share of each layer's weights by class of their pulse band, for {run}",
            caption=f"Weights by the class of their pulse band at epoch {last['epoch'].max()}, "
            "S_adv "
            f"({attack}). {page.n(chosen)}.",
            read="A bar is one layer, its parts the shares of its non-zero weights that lie in "
            "bands "
            "of each class; the few weights between two neighbouring bands are left out.",
        )
        blocks.append(page.block(run, figures=[figure]))
    return page.section(
        "bands",
        "Parameters by pulse band",
        intro="A weight takes the class of the pulse band that it lies in, so a layer splits into "
        "fragile, robust and antifragile parameters (ours). " + _choices(config, "bands"),
        blocks=blocks,
        empty="There are no pulse bands: they need synaptic_filtering with the pulse filter.",
    )


def _retraining(tables: dict, config: dict) -> dict:
    comparison, shares = tables["comparison"], _frozen(tables["retraining"])
    settings, blocks = config["retraining"], []
    for index, (run, part) in enumerate(page.runs(comparison)):
        for epoch, of_epoch in part.groupby("epoch"):
            here = page.of(shares, part)
            here = here[here["epoch"] == epoch]
            words = {
                policy: f"{_range(rows['share'])} frozen"
                for policy, rows in here.groupby("family")
                if policy != "regular"
            }
            seeds = of_epoch.loc[of_epoch["level"] == "seed", "seed"].nunique()
            over = (
                f"diamond: mean over {seeds} seeds with its t interval (an arrow where it leaves "
                "the axis)"
                if seeds > 1
                else "one seed, so no interval over seeds"
            )
            figure = page.figure(
                plots.policy_comparison(of_epoch, notes=words),
                name=f"retraining-{index}-{epoch}",
                alt=f"Accuracy of retraining policies less regular for {run} from epoch {epoch}",
                caption=f"{page.epochs(settings['epochs'])} of retraining from epoch {epoch}. "
                f"{page.n(of_epoch)}; "
                f"dot: one seed with its interval over images (paired); {over}.",
                read="Right of the line is better than regular retraining. An interval that "
                "reaches "
                "over the line does not tell the policy from regular. Intervals are not "
                "corrected for "
                "the number of comparisons.",
            )
            whole = of_epoch[of_epoch["level"] == "all seeds"]
            numbers = pd.DataFrame(
                {
                    "images": whole["images"],
                    "policy": whole["policy"],
                    "accuracy": [page.percent(a) for a in whole["accuracy"]],
                    "regular": [page.percent(a) for a in whole["reference_accuracy"]],
                    "difference (points)": [page.points(d) for d in whole["difference"]],
                    "over seeds": [page.interval(r) for r in whole.to_dict("records")],
                    "over images": [
                        page.interval({"ci_low": r["image_ci_low"], "ci_high": r["image_ci_high"]})
                        for r in whole.to_dict("records")
                    ],
                    "seeds": whole["seeds"],
                    "draws": whole["draws"],
                }
            )
            heading = f"{run}, from epoch {epoch}"
            table = page.table("Mean over seeds", numbers, source="comparison.tsv")
            blocks.append(
                page.block(heading, figures=[figure], notes=[_note(here).strip()], tables=[table])
            )
    return page.section(
        "retraining",
        "Retraining compared",
        intro=f"selective freezes the fragile parameters (by {settings['by']}, "
        f"{settings['score']} of "
        f"{settings['attack']}), fragile_only all others, random as many as selective "
        f"({settings['random_draws']} draws, averaged); regular freezes nothing. All train "
        "equally long "
        "on the same order of data, and are attacked anew afterwards. Shares are of the "
        "parameters that "
        "can be frozen.",
        blocks=blocks,
        empty="No retraining was run: retraining.from_epochs is empty.",
    )


def _invariance(tables: dict) -> dict:
    table, blocks = tables["invariance"], []
    if len(table):
        shown = pd.DataFrame(
            {
                "network": table["network"],
                "synaptic filter": table["filter"],
                "score": table["score"] + page.suffix(table["attack"]),
                "over": table["over"],
                "keep their class": [page.percent(u) for u in table["unchanged"]],
                "pairs agree": [page.percent(u) for u in table["agreement"]],
                "kappa": [page.number(k) for k in table["kappa"]],
                "units": table["units"],
                "raters": table["raters"],
                "left out": table["dropped"],
                "note": table["note"].fillna(""),
            }
        )
        combined = (table["filter"] == "combined").to_numpy()
        main = page.table(
            "Combined over the synaptic filters",
            shown[combined].drop(columns="synaptic filter"),
            shown=True,
            source="invariance.tsv",
        )
        rest = page.table("Each synaptic filter", shown[~combined], source="invariance.tsv")
        blocks.append(page.block("", tables=[main, rest]))
    return page.section(
        "invariance",
        "Invariance",
        intro="How far layers keep their class when only the seed, the epoch or the data set "
        "changes, "
        "and across networks, where layers are matched by kind and relative depth (ours). How to "
        "read "
        "it: a unit is a layer with everything else held fixed, the raters are what changes; kappa "
        "(Fleiss) is agreement beyond chance, 1 at best, 0 as by chance. Classes that are not "
        "decided "
        "count like others here.",
        blocks=blocks,
        empty="There is nothing to compare: one seed, one epoch, one data set and one network, "
        "or no "
        "classes of layers.",
    )


def _training(tables: dict) -> dict:
    blocks = []
    for index, (run, part) in enumerate(page.runs(tables["history"])):
        seeds = part["seed"].nunique()
        figure = page.figure(
            plots.training_curves(part),
            name=f"training-{index}",
            alt=f"Loss and accuracy while {run} trained",
            caption=f"Training of {run}, {seeds} seed{'s' * (seeds > 1)}; thick: mean over seeds, "
            "thin: each seed. The validation images are no test images.",
            read="Validation lines that turn away from training lines show overfitting.",
        )
        blocks.append(page.block(run, figures=[figure]))
    return page.section(
        "training",
        "Training curves",
        intro="Loss and accuracy after every epoch: on training images the loss that the recipe "
        "minimises, on validation images the cross-entropy of clean ones.",
        blocks=blocks,
        empty="No epoch was trained: the only checkpoint is that of epoch 0.",
    )


def _checks(tables: dict) -> dict:
    checks, blocks = tables["checks"], []
    if len(checks):
        rows = []
        for check, part in checks.groupby("check", sort=False):
            warned = part[part["status"] == "warning"]
            row = {"check": check, "made": len(part), "warnings": len(warned)}
            if len(warned):
                first = warned.iloc[0]
                where = (
                    f"{first['dataset']} · {first['network']} · {first['training']}, seed "
                    f"{first['seed']}, epoch {first['epoch']}, {first['attack']}"
                )
                row["example"] = f"{where}: {first['detail']}"
                row["what a warning means"] = CHECK_MEANINGS.get(check, "")
            rows.append(row)
        table = pd.DataFrame(rows)
        warned = table["warnings"] > 0
        notes = [_check_sentence(checks)]
        warnings = page.table("Warnings", table[warned], shown=True, source="checks.tsv")
        passed = table.loc[~warned, ["check", "made"]]
        meanings = passed.assign(
            **{"what a warning would mean": [CHECK_MEANINGS.get(c, "") for c in passed["check"]]}
        )
        passed = page.table("Checks that passed everywhere", meanings, source="checks.tsv")
        blocks.append(page.block("", notes=notes, tables=[warnings, passed]))
    return page.section(
        "checks",
        "Self-checks of the attacks",
        intro="Each attack tests itself on every checkpoint; a warning says what not to trust.",
        blocks=blocks,
        empty="No self-check was made, as no attack was run.",
    )


# Words and numbers


def _frozen(retraining: pd.DataFrame) -> pd.DataFrame:
    """Share of the freezable parameters that were frozen, per retraining; draws as one family."""
    if not len(retraining):
        return pd.DataFrame(columns=[*page.RUN, "epoch", "seed", "policy", "family", "share"])
    table = retraining.drop_duplicates([*page.RUN, "epoch", "seed", "policy"])
    share = table["frozen"] / table["freezable"].where(table["freezable"] > 0)
    return table.assign(share=share, family=table["policy"].str.replace(r"-\d+$", "", regex=True))


def _note(shares: pd.DataFrame) -> str:
    share = shares.loc[shares["policy"] == "selective", "share"]
    if not len(share):
        return ""
    if (share == 0).all():
        return "selective froze nothing, as nothing was fragile: it is regular retraining. "
    if (share == 1).all():
        return "selective froze everything that can be frozen, as all of it was fragile. "
    none, all_of_it = (share == 0).sum(), (share == 1).sum()
    if none:
        return f"selective froze nothing in {none} of {len(share)} seeds. "
    if all_of_it:
        return (
            f"selective froze everything that can be frozen in {all_of_it} of {len(share)} seeds. "
        )
    return ""


def _range(shares) -> str:
    shares = shares.dropna()
    if not len(shares):
        return "nothing"
    low, high = 100 * shares.min(), 100 * shares.max()
    return f"{low:.0f} %" if f"{low:.0f}" == f"{high:.0f}" else f"{low:.0f} to {high:.0f} %"
