ALL, LAST = checkpoints(), checkpoints("last")  # a last history tells all epochs before
TOGETHER = checkpoints(ROBUST["epochs"]) if ROBUST["attacks"] else []
ATTACKED = with_each(ALL, "attack", sorted({*config["attacks"]} - {*ROBUST["attacks"]}))
SCORED = [place for place in ALL if FILTERING["global"] or ablated_layers(place)]
SUSTAINED = checkpoints(SUSTAIN["epochs"])
TUNED = [
    {key: place[key] for key in ("dataset", "network", "training")}
    for place in checkpoints("last")
    if place["seed"] == config["seeds"][0]
    and (config["trainings"][place["training"]]["tune"] or {}).get("grid")
]
RETRAINED = with_each(checkpoints(RETRAIN["from_epochs"]), "policy", POLICIES)
PERTURBED = with_layers(checkpoints(PERTURB["epochs"]), PERTURB["layers"])
TARGETED = with_layers(checkpoints(TARGET["epochs"]), TARGET["layers"])
MENDED = with_layers(checkpoints(MEND["from_epochs"]), MEND["layers"])
OWN_ABLATED = [
    place | {"layer": layer, "ablation": name}
    for name, ablation in sorted(config["ablations"].items())
    for place in checkpoints(ablation["epochs"])
    for layer in select_layers(place["network"], ablation["layers"])
]
REMEDIED = with_each(MENDED, "policy", REMEDIES)
TABLES = f"{RESULTS}/tables"
KINDS = [
    *("accuracy", "checks", "history", "curves", "layers", "filters", "bands"),
    *("retraining", "comparison", "invariance"),
    *("perturbations", "perturbation_layers", "perturbation_headline", "perturbation_depth"),
    *("targeting", "kernels", "association", "fragile_overlap"),
    *("gains", "strengths", "remedy"),
    *("sustainability", "sustainability_lists", "sustainability_agreement"),
    *("tuning", "robustness", "robustness_differences"),
    "ablations",
]


rule aggregate:
    input:
        accuracy=paths(f"{ATTACK}/accuracy.tsv", ATTACKED),
        checks=paths(f"{ATTACK}/checks.tsv", ATTACKED),
        attack_correct=paths(f"{ATTACK}/correct.npz", ATTACKED),
        together_accuracy=paths(f"{CHECKPOINT}/robustness/accuracy.tsv", TOGETHER),
        together_checks=paths(f"{CHECKPOINT}/robustness/checks.tsv", TOGETHER),
        together_correct=paths(f"{CHECKPOINT}/robustness/correct.npz", TOGETHER),
        sustainability=paths(f"{CHECKPOINT}/sustainability/probes.tsv", SUSTAINED),
        sustainability_lists=paths(f"{CHECKPOINT}/sustainability/lists.tsv", SUSTAINED),
        tuning=paths(f"{TUNING}/candidates.tsv", TUNED),
        history=paths(f"{CHECKPOINT}/history.tsv", LAST),
        curves=paths(f"{CHECKPOINT}/scores/curves.tsv", SCORED),
        layers=paths(f"{CHECKPOINT}/classes/layers.tsv", SCORED),
        filters=paths(f"{CHECKPOINT}/classes/filters.tsv", SCORED),
        bands=paths(f"{CHECKPOINT}/classes/bands.tsv", SCORED),
        retrain_result=paths(f"{RETRAINING}/result.tsv", RETRAINED),
        retrain_correct=paths(f"{RETRAINING}/correct.npz", RETRAINED),
        perturbations=paths(f"{CHECKPOINT}/perturbations/curves.tsv", PERTURBED),
        perturbation_layers=paths(f"{CHECKPOINT}/perturbations/layers.tsv", PERTURBED),
        perturbation_headline=paths(f"{CHECKPOINT}/perturbations/headline.tsv", PERTURBED),
        perturbation_depth=paths(f"{CHECKPOINT}/perturbations/depth.tsv", PERTURBED),
        targeting=paths(f"{CHECKPOINT}/targeting/filters.tsv", TARGETED),
        kernels=paths(f"{CHECKPOINT}/targeting/kernels.tsv", TARGETED),
        gains=paths(f"{CHECKPOINT}/remedy/gains.tsv", MENDED),
        strengths=paths(f"{CHECKPOINT}/remedy/strengths.tsv", MENDED),
        ablations=paths(OWN_ABLATION, OWN_ABLATED),
        remedy_correct=paths(f"{REMEDY}/correct.npz", REMEDIED),
    output:
        **{kind: f"{TABLES}/{kind}.tsv" for kind in KINDS},
    log:
        f"{RESULTS}/logs/aggregate.log",
    benchmark:
        f"{RESULTS}/benchmarks/aggregate.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=60,
        gpu=0,
    params:
        scored=SCORED,
        attacked=ATTACKED,
        together=TOGETHER,
        sustained=SUSTAINED,
        tuned=TUNED,
        bases={k: t["base"] for k, t in sorted(config["trainings"].items()) if "base" in t},
        published=published_accuracies(),
        histories=LAST,
        retrained=RETRAINED,
        perturbed=PERTURBED,
        targeted=TARGETED,
        mended=MENDED,
        remedied=REMEDIED,
        ablated=OWN_ABLATED,
        network_layers=network_layers(*config["networks"]),
        permutations=TARGET["permutations"],
        attacks=attack_settings(*config["attacks"]),
        masking=ROBUST["masking"],
        confidence=config["scores"]["confidence"],
        code=code("aggregate"),
    script:
        "../workflow/aggregate.py"


rule report:
    input:
        **{kind: f"{TABLES}/{kind}.tsv" for kind in KINDS},
        template=os.path.relpath(ROOT / "workflow/faultline/report/report.html.j2"),
    output:
        html=report(REPORT, category="faultline"),
        config=f"{RESULTS}/config.resolved.yaml",
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=60,
        gpu=0,
    params:
        config=ordered(config),
        code=code("report"),
    script:
        "../workflow/report.py"
