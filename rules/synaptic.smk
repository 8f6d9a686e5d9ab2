FILTERING, SCORED = CONFIG.synaptic_filtering, PLAN.scored()
SWEPT = with_each_layer(SCORED, FILTERING.layers)


rule choose_images:
    """The images that all ablated networks of one checkpoint are judged on, chosen by its margins."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=stored_sets,
    output:
        chosen=f"{CHECKPOINT}/chosen-images.npz",
    log:
        f"{LOGS}/choose_images.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        sets=PLAN.image_sets(),
        device=CONFIG.device,
        code=code("choose_images"),
    script:
        "../workflow/choose_images.py"


# One rule for any layer; or one for each batch of a network's layers, which a job does together.
for batch in PLAN.layer_batches():

    rule ablate_layer:
        """The synaptic filters of a layer: which images stay correct at every threshold."""
        name:
            batch["rule"]
        input:
            data=DATA,
            checkpoint=f"{CHECKPOINT}/checkpoint.pt",
            adversarial=stored_sets,
            chosen=chosen_images,
        output:
            facts=[
                f"{LAYER}/synaptic-filtering.npz".replace("{layer}", layer)
                for layer in batch["layers"]
            ],
        log:
            f"{LOGS}/{batch['log']}",
        wildcard_constraints:
            network=batch["network"],
        priority: CHAIN
        conda:
            "../envs/faultline.yaml"
        resources:
            mem_mb=memory(2000),
            runtime=240,
            gpu=GPU,
        params:
            sets=PLAN.image_sets(),
            filters=FILTERING.filters,
            thresholds=FILTERING.thresholds,
            random_draws=FILTERING.random_draws,
            device=CONFIG.device,
            code=code("ablate_layer"),
        script:
            "../workflow/ablate_layer.py"

    BETWEEN += outputs(
        getattr(rules, batch["rule"]),
        [
            place
            for place in (SWEPT if batch["layers"] == ["{layer}"] else SCORED)
            if re.fullmatch(batch["network"], place["network"])
        ],
    )


rule ablate_global:
    """The synaptic filters over all layers at once."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=stored_sets,
        chosen=chosen_images,
    output:
        facts=f"{CHECKPOINT}/global/synaptic-filtering.npz",
    log:
        f"{LOGS}/ablate_global.log",
    priority: CHAIN
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        sets=PLAN.image_sets(),
        filters=FILTERING.filters,
        thresholds=FILTERING.thresholds,
        random_draws=FILTERING.random_draws,
        limits=FILTERING.global_range,
        device=CONFIG.device,
        code=code("ablate_global"),
    script:
        "../workflow/ablate_global.py"


rule ablate_filters:
    """Nodal dropout of some filters of a layer, one at a time: which images stay correct."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=stored_sets,
        chosen=chosen_images,
    output:
        facts=f"{LAYER}/nodal-dropout/{{first}}-{{last}}.npz",
    log:
        f"{LOGS}/layers/{{layer}}/ablate_filters-{{first}}-{{last}}.log",
    priority: CHAIN
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        sets=PLAN.image_sets(),
        at=CONFIG.nodal_dropout.at,
        device=CONFIG.device,
        code=code("ablate_filters"),
    script:
        "../workflow/ablate_filters.py"


rule score:
    """Scores of layers, filters and bands of one checkpoint, from what their ablation left correct."""
    input:
        local=lambda w: [
            f"{LAYER}/synaptic-filtering.npz".format(layer=layer, **w)
            for layer in PLAN.filtered_layers(w.network)
        ],
        all_layers=[f"{CHECKPOINT}/global/synaptic-filtering.npz"] * FILTERING.all_layers,
        nodal=dropout_facts,
    output:
        base=f"{CHECKPOINT}/scores/base.tsv",
        baselines=f"{CHECKPOINT}/scores/baselines.tsv",
        layers=f"{CHECKPOINT}/scores/layers.tsv",
        filters=f"{CHECKPOINT}/scores/filters.tsv",
        bands=f"{CHECKPOINT}/scores/bands.tsv",
        curves=f"{CHECKPOINT}/scores/curves.tsv",
    log:
        f"{LOGS}/score.log",
    priority: CHAIN
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        baseline=CONFIG.scores.baseline,
        integration=CONFIG.scores.integration,
        confidence=CONFIG.scores.confidence,
        code=code("score"),
    script:
        "../workflow/score.py"


rule classify:
    """Fragile, robust or antifragile: the classes of one checkpoint's layers, filters or bands."""
    input:
        scores=f"{CHECKPOINT}/scores/{{unit}}.tsv",
    output:
        classes=f"{CHECKPOINT}/classes/{{unit}}.tsv",
    log:
        f"{LOGS}/classify-{{unit}}.log",
    priority: CHAIN
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=30,
    params:
        tau=lambda w: ordered(getattr(CONFIG.classes.tau, w.unit).dump()),
        code=code("classify"),
    script:
        "../workflow/classify.py"


DROPPED = [
    place | job for place in SCORED for job in PLAN.dropout_jobs(place["network"], place["dataset"])
]
CURVED = SWEPT or SCORED * FILTERING.all_layers


use rule tabulate_accuracy as tabulate_synaptic with:
    """The tables that the study synaptic gives to the report."""
    input:
        base=fill(f"{CHECKPOINT}/scores/base.tsv", SCORED),
        baselines=fill(f"{CHECKPOINT}/scores/baselines.tsv", SCORED),
        curves=fill(f"{CHECKPOINT}/scores/curves.tsv", SCORED),
        layers=fill(f"{CHECKPOINT}/classes/layers.tsv", SCORED),
        filters=fill(f"{CHECKPOINT}/classes/filters.tsv", SCORED),
        bands=fill(f"{CHECKPOINT}/classes/bands.tsv", SCORED),
    output:
        **tables(
            "synaptic",
            **dict.fromkeys(("curves", "layers", "baselines"), CURVED),
            base=SCORED,
            filters=DROPPED,
            bands="pulse" in FILTERING.filters and SWEPT,
            invariance=SWEPT and (several(SWEPT) or len({p["network"] for p in SWEPT}) > 1),
        ),
    log:
        f"{RESULTS}/logs/tabulate_synaptic.log",
    params:
        study="synaptic",
        settings={"network_layers": network_layers(CONFIG.networks)},
        code=code("tabulate_study", "faultline/studies/synaptic/tables"),


BETWEEN += outputs(rules.ablate_global, SCORED * FILTERING.all_layers)
BETWEEN += outputs(rules.ablate_filters, DROPPED)
BETWEEN += outputs(rules.score, SCORED)
BETWEEN += outputs(rules.classify, with_each(SCORED, "unit", ["layers", "filters", "bands"]))
BETWEEN += shared_images(SCORED)
