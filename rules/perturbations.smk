PERTURB, PERTURBED = CONFIG.perturbations, PLAN.of_section("perturbations")


rule perturb_layer:
    """Random internal perturbations of one layer: which images stay correct."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=stored_sets,
        chosen=chosen_images,
    output:
        facts=f"{LAYER}/perturbations.npz",
    log:
        f"{LOGS}/layers/{{layer}}/perturb_layer.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        # a large network is held several times over, and with little memory left batches get small
        mem_mb=memory(2000, per_input=3),
        runtime=240,
        gpu=GPU,
    params:
        where=place,
        sets=PLAN.image_sets(),
        perturbations=ordered(
            PERTURB.dump("kinds", "parameters", "shares", "sigmas", "rates", "repeats")
        ),
        tops=lambda w: [1, 5] if CLASSES[w.dataset] > 10 else [1],
        device=CONFIG.device,
        code=code("perturb_layer"),
    script:
        "../workflow/perturb_layer.py"


rule score_perturbations:
    """Curves and headline of one checkpoint's perturbations."""
    input:
        facts=lambda w: [
            f"{LAYER}/perturbations.npz".format(layer=layer, **w)
            for layer in select_layers(w.network, PERTURB.layers)
        ],
    output:
        curves=f"{CHECKPOINT}/perturbations/curves.tsv",
        layers=f"{CHECKPOINT}/perturbations/layers.tsv",
        headline=f"{CHECKPOINT}/perturbations/headline.tsv",
        depth=f"{CHECKPOINT}/perturbations/depth.tsv",
    log:
        f"{LOGS}/score_perturbations.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        network_layers=lambda w: network_layers([w.network])[w.network],
        ends=PERTURB.ends,
        almost_chance=PERTURB.almost_chance,
        confidence=CONFIG.scores.confidence,
        code=code("score_perturbations"),
    script:
        "../workflow/score_perturbations.py"


use rule tabulate_accuracy as tabulate_perturbations with:
    """The tables that the study perturbations gives to the report."""
    input:
        curves=fill(f"{CHECKPOINT}/perturbations/curves.tsv", PERTURBED),
        layers=fill(f"{CHECKPOINT}/perturbations/layers.tsv", PERTURBED),
        headline=fill(f"{CHECKPOINT}/perturbations/headline.tsv", PERTURBED),
        depth=fill(f"{CHECKPOINT}/perturbations/depth.tsv", PERTURBED),
    output:
        **tables(
            "perturbations",
            perturbations=PERTURBED,
            perturbation_layers=PERTURBED,
            perturbation_headline=PERTURBED,
            perturbation_depth=PERTURBED,
        ),
    log:
        f"{RESULTS}/logs/tabulate_perturbations.log",
    params:
        study="perturbations",
        settings={"confidence": CONFIG.scores.confidence},
        code=code("tabulate_study", "faultline/studies/perturbations/tables"),


BETWEEN += outputs(rules.perturb_layer, with_each_layer(PERTURBED, PERTURB.layers))
BETWEEN += shared_images(PERTURBED)
BETWEEN += outputs(rules.score_perturbations, PERTURBED)
