SUSTAIN, SUSTAINED = CONFIG.sustainability, PLAN.of_section("sustainability")


rule analyse_sustainability:
    """Relative errors of one checkpoint's layers under every perturber."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
    output:
        errors=f"{CHECKPOINT}/sustainability/errors.npz",
    log:
        f"{LOGS}/analyse_sustainability.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000, per_input=3),  # a large network is held several times over
        runtime=240,
        gpu=GPU,
    params:
        attacks=PLAN.attacks(SUSTAIN.perturbers),
        settings=ordered(SUSTAIN.dump("at", "split", "images", "noises")),
        device=CONFIG.device,
        code=code("analyse_sustainability"),
    script:
        "../workflow/analyse_sustainability.py"


rule list_vulnerable:
    """The most vulnerable layers of one checkpoint."""
    input:
        errors=f"{CHECKPOINT}/sustainability/errors.npz",
    output:
        probes=f"{CHECKPOINT}/sustainability/probes.tsv",
        lists=f"{CHECKPOINT}/sustainability/lists.tsv",
    log:
        f"{LOGS}/list_vulnerable.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=60,
    params:
        eta=SUSTAIN.eta,
        eta_grid=SUSTAIN.eta_grid,
        confidence=CONFIG.scores.confidence,
        code=code("list_vulnerable"),
    script:
        "../workflow/list_vulnerable.py"


use rule tabulate_accuracy as tabulate_sustainability with:
    """The tables that the study sustainability gives to the report."""
    input:
        probes=fill(f"{CHECKPOINT}/sustainability/probes.tsv", SUSTAINED),
        lists=fill(f"{CHECKPOINT}/sustainability/lists.tsv", SUSTAINED),
    output:
        **tables(
            "sustainability",
            sustainability=SUSTAINED,
            sustainability_lists=SUSTAINED,
            sustainability_agreement=SUSTAINED,
        ),
    log:
        f"{RESULTS}/logs/tabulate_sustainability.log",
    params:
        study="sustainability",
        settings={},
        code=code("tabulate_study", "faultline/studies/sustainability/tables"),


BETWEEN += outputs(rules.analyse_sustainability, SUSTAINED + PLAN.listed())
BETWEEN += outputs(rules.list_vulnerable, SUSTAINED)
