from faultline.studies.mending.candidates import about, candidate, name_of

MENDING = CONFIG.mending
UNDER_ALL = sorted(CONFIG.stresses) if MENDING.stresses else []
TO_MEND = PLAN.of_section("mending", "from_epochs")
CANDIDATES = {name_of(name): name for name in MENDING.candidates}
SWEPT_AGAIN = with_layers(TO_MEND, FILTERING.layers) if MENDING.swept else []


rule mend:
    """One checkpoint mended by one candidate: its way, and the weights that validation images keep."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        stressed=lambda w: stressed_sets(w, MENDING.stresses, "train", "validation"),
        layers=lambda w: classes_of("layers", w.candidate),
        filters=lambda w: classes_of("filters", w.candidate),
    output:
        path=f"{CANDIDATE}/path.tsv",
        network=f"{CANDIDATE}/network.pt",
    log:
        f"{LOGS}/mend-{{candidate}}.log",
    priority: CHAIN
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=480,
        gpu=GPU,
    params:
        candidate=lambda w: CANDIDATES[w.candidate],
        own=lambda w: with_code({"function": CANDIDATES[w.candidate]}, "function"),
        settings=MENDING.dump("rates", "shares", "batch_size", "epochs", "clean_loss"),
        training=lambda w: PLAN.segment_settings(w.training, w.network),
        attack=next(iter(PLAN.attacks(MENDING.judged_under[:1]).values()), {}),
        stresses=MENDING.stresses,
        faults=MENDING.faults,
        choice={"attack": CONFIG.mended_score},
        device=CONFIG.device,
        code=code("mend"),
    script:
        "../workflow/mend.py"


rule judge_mends:
    """The mends of one checkpoint judged beside the network that was given; the one that validation
    images chose is handed back, as mended.pt beside the note, where test images bear it out."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        weights=given_weights,
        networks=mended_networks,
        stressed=lambda w: stressed_sets(w, UNDER_ALL, "test"),
        paths=lambda w: fill(
            f"{CANDIDATE}/path.tsv", with_each([place(w)], "candidate", CANDIDATES)
        ),
    output:
        note=f"{CHECKPOINT}/mended.md",
        result=f"{CHECKPOINT}/mended/result.tsv",
        bought=f"{CHECKPOINT}/mended/bought.tsv",
        correct=f"{CHECKPOINT}/mended/correct.npz",
    log:
        f"{LOGS}/judge_mends.log",
    priority: CHAIN
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=480,
        gpu=GPU,
    params:
        names=[*CANDIDATES],
        abouts={
            name: about(function, stresses=bool(MENDING.stresses), faults=bool(MENDING.faults))
            for name, function in CANDIDATES.items()
        },
        attacks=PLAN.attacks(MENDING.judged_under),
        stresses=UNDER_ALL,
        faults=MENDING.faults,
        under=MENDING.under,
        clean_loss=MENDING.clean_loss,
        confidence=CONFIG.scores.confidence,
        weights_key=given_key,
        device=CONFIG.device,
        code=code("judge_mends"),
    script:
        "../workflow/judge_mends.py"


rule sweep_mended:
    """The layers of one checkpoint swept again with the weights that mended it, if any did."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        result=f"{CHECKPOINT}/mended/result.tsv",
        networks=mended_networks,
        chosen=chosen_images,
        adversarial=[],
    output:
        layers=f"{CHECKPOINT}/mended/layers.tsv",
    log:
        f"{LOGS}/sweep_mended.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=480,
        gpu=GPU,
    params:
        names=[*CANDIDATES],
        sets=PLAN.image_sets() | {"transferred": [], "stressed": {}},
        settings=lambda w: {
            "layers": PLAN.filtered_layers(w.network),
            "stored": PLAN.attacks(PLAN.transferred()),
            "scores": CONFIG.scores.dump("baseline", "integration", "confidence"),
            "tau": ordered(CONFIG.classes.tau.layers.dump()),
            **FILTERING.dump("filters", "thresholds", "random_draws"),
        },
        device=CONFIG.device,
        code=code("sweep_mended"),
    script:
        "../workflow/sweep_mended.py"


use rule tabulate_accuracy as tabulate_mending with:
    """The tables that the study mending gives to the report."""
    input:
        path=fill(f"{CANDIDATE}/path.tsv", with_each(TO_MEND, "candidate", CANDIDATES)),
        result=fill(f"{CHECKPOINT}/mended/result.tsv", TO_MEND),
        bought=fill(f"{CHECKPOINT}/mended/bought.tsv", TO_MEND),
        correct=fill(f"{CHECKPOINT}/mended/correct.npz", TO_MEND),
        layers=fill(f"{CHECKPOINT}/mended/layers.tsv", SWEPT_AGAIN),
    output:
        **tables(
            "mending",
            **dict.fromkeys(("mends", "mending", "mending_paths", "mending_bought"), TO_MEND),
            mended_layers=SWEPT_AGAIN,
        ),
    log:
        f"{RESULTS}/logs/tabulate_mending.log",
    params:
        study="mending",
        settings={"confidence": CONFIG.scores.confidence},
        code=code("tabulate_study", "faultline/studies/mending/tables"),


BETWEEN += outputs(rules.mend, with_each(TO_MEND, "candidate", CANDIDATES))
BETWEEN += outputs(rules.judge_mends, TO_MEND)
BETWEEN += outputs(rules.sweep_mended, SWEPT_AGAIN)
