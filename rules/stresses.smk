STRESSED = PLAN.stressed()


rule stress:
    """The images of a split under one stress, at each of its severities."""
    input:
        data=DATA,
    output:
        images=f"{STRESS}.pt",
        about=f"{STRESS}.tsv",
    log:
        f"{RESULTS}/logs/{{dataset}}/stress-{{stress}}-{{split}}.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000, per_input=8),
        runtime=240,
    params:
        settings=lambda w: PLAN.stress(w.stress),
        code=code(
            "stress",
            *(
                f"faultline/stresses/{module}"
                for module in ("blur", "digital", "moved", "noise", "weather")
            ),
        ),
    script:
        "../workflow/stress.py"


rule judge_stresses:
    """Which test images one checkpoint classifies correctly under each stress."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        stressed=lambda w: stressed_sets(w, PLAN.stresses_of(place(w)), "test"),
    output:
        correct=f"{CHECKPOINT}/stresses.npz",
    log:
        f"{LOGS}/judge_stresses.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000, per_input=6),
        runtime=240,
        gpu=GPU,
    params:
        names=lambda w: PLAN.stresses_of(place(w)),
        device=CONFIG.device,
        code=code("judge_stresses"),
    script:
        "../workflow/judge_stresses.py"


use rule tabulate_accuracy as tabulate_stresses with:
    """The tables that the study stresses gives to the report."""
    input:
        correct=fill(f"{CHECKPOINT}/stresses.npz", STRESSED),
        about=fill(f"{STRESS}.tsv", PLAN.stress_sets()),
    output:
        **tables("stresses", **dict.fromkeys(tables_of("stresses"), STRESSED)),
    log:
        f"{RESULTS}/logs/tabulate_stresses.log",
    params:
        study="stresses",
        settings={"confidence": CONFIG.scores.confidence},
        code=code("tabulate_study", "faultline/studies/stresses/tables"),


BETWEEN += outputs(rules.stress, PLAN.stress_sets() + PLAN.stressed_training())
BETWEEN += outputs(rules.judge_stresses, STRESSED)
