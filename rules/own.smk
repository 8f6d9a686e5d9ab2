rule ablate_own:
    """One ablation of the user's own on one layer."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=stored_sets,
        chosen=chosen_images,
    output:
        facts=OWN_ABLATION,
    log:
        f"{LOGS}/layers/{{layer}}/ablate_own-{{ablation}}.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        sets=PLAN.image_sets(),
        ablation=lambda w: PLAN.own_ablation(w.ablation),
        device=CONFIG.device,
        code=code("ablate_own"),
    script:
        "../workflow/ablate_own.py"


use rule tabulate_accuracy as tabulate_own with:
    """The tables that the study own gives to the report."""
    input:
        ablations=fill(OWN_ABLATION, PLAN.own_ablated()),
    output:
        **tables("own", ablations=PLAN.own_ablated()),
    log:
        f"{RESULTS}/logs/tabulate_own.log",
    params:
        study="own",
        settings={"confidence": CONFIG.scores.confidence},
        code=code("tabulate_study", "faultline/studies/own/tables"),


BETWEEN += outputs(rules.ablate_own, PLAN.own_ablated())
BETWEEN += shared_images(PLAN.own_ablated())
