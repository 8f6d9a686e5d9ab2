TARGET, MEND = CONFIG.targeting, CONFIG.remedy
TARGETED, MENDED = PLAN.of_section("targeting"), PLAN.of_section("remedy", "from_epochs")


rule target_filters:
    """How much of each attack falls on each filter of one checkpoint."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=lambda w: adversarial_sets(w, TARGET.attacks),
    output:
        targeting=f"{CHECKPOINT}/targeting/filters.tsv",
        kernels=f"{CHECKPOINT}/targeting/kernels.tsv",
    log:
        f"{LOGS}/target_filters.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=60,
        gpu=GPU,
    params:
        layers=lambda w: select_layers(w.network, TARGET.layers, called=True),
        attacks=TARGET.attacks,
        images=CONFIG.ablation.images,
        split=CONFIG.ablation.split,
        at=lambda w: PLAN.targeted_at(w.network),
        device=CONFIG.device,
        code=code("target_filters"),
    script:
        "../workflow/target_filters.py"


rule choose_gains:
    """The gains of the remedy and their strength, chosen on validation images."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
    output:
        gains=f"{CHECKPOINT}/remedy/gains.tsv",
        strengths=f"{CHECKPOINT}/remedy/strengths.tsv",
    log:
        f"{LOGS}/choose_gains.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        layers=lambda w: select_layers(w.network, MEND.layers, called=True),
        at=CONFIG.nodal_dropout.at,
        policies=[policy for policy in PLAN.remedies() if policy != "none"],
        strengths=MEND.strengths,
        attacks=PLAN.attacks(MEND.chosen_under),
        device=CONFIG.device,
        code=code("choose_gains"),
    script:
        "../workflow/choose_gains.py"


rule remedy:
    """One checkpoint with the gains of one policy, judged on test images."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        gains=f"{CHECKPOINT}/remedy/gains.tsv",
    output:
        result=f"{REMEDY}/result.tsv",
        correct=f"{REMEDY}/correct.npz",
        network=f"{REMEDY}/network.pt",
    log:
        f"{LOGS}/remedy-{{policy}}.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        attacks=PLAN.attacks(MEND.judged_under),
        device=CONFIG.device,
        code=code("remedy"),
    script:
        "../workflow/remedy.py"


use rule tabulate_accuracy as tabulate_fragile with:
    """The tables that the study fragile gives to the report."""
    input:
        filters=fill(f"{CHECKPOINT}/classes/filters.tsv", SCORED),
        targeting=fill(f"{CHECKPOINT}/targeting/filters.tsv", TARGETED),
        kernels=fill(f"{CHECKPOINT}/targeting/kernels.tsv", TARGETED),
        gains=fill(f"{CHECKPOINT}/remedy/gains.tsv", MENDED),
        strengths=fill(f"{CHECKPOINT}/remedy/strengths.tsv", MENDED),
        correct=fill(f"{REMEDY}/correct.npz", with_each(MENDED, "policy", PLAN.remedies())),
    output:
        **tables(
            "fragile",
            **dict.fromkeys(("targeting", "kernels"), TARGETED),
            **dict.fromkeys(("gains", "strengths", "remedy"), MENDED),
            association=TARGETED and DROPPED,
            fragile_overlap=several(DROPPED),
        ),
    log:
        f"{RESULTS}/logs/tabulate_fragile.log",
    params:
        study="fragile",
        settings={
            "permutations": TARGET.permutations,
            "confidence": CONFIG.scores.confidence,
        },
        code=code("tabulate_study", "faultline/studies/fragile/tables"),


BETWEEN += outputs(rules.craft, with_each(TARGETED, "attack", TARGET.attacks))
BETWEEN += outputs(rules.target_filters, TARGETED)
BETWEEN += outputs(rules.choose_gains, MENDED)
BETWEEN += outputs(rules.remedy, with_each(MENDED, "policy", PLAN.remedies()))
