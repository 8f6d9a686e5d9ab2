rule evaluate_robustness:
    """Several attacks on one checkpoint together, over eps on test images."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
    output:
        accuracy=f"{CHECKPOINT}/robustness/accuracy.tsv",
        checks=f"{CHECKPOINT}/robustness/checks.tsv",
        correct=f"{CHECKPOINT}/robustness/correct.npz",
    log:
        f"{LOGS}/evaluate_robustness.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=480,
        gpu=GPU,
    params:
        attacks=PLAN.attacks(CONFIG.robustness.attacks),
        device=CONFIG.device,
        code=code("evaluate_robustness"),
    script:
        "../workflow/evaluate_robustness.py"


use rule tabulate_accuracy as tabulate_robustness with:
    """The tables that the study robustness gives to the report."""
    input:
        accuracy=TABLES["accuracy"],
        tuning=fill(f"{TUNING}/candidates.tsv", PLAN.tuned()),
    output:
        **tables("robustness", robustness_differences=PLAN.bases(), tuning=PLAN.tuned()),
    log:
        f"{RESULTS}/logs/tabulate_robustness.log",
    params:
        study="robustness",
        settings={
            "bases": PLAN.bases(),
            "published": PLAN.published_accuracies(),
            "one_step": one_step(PLAN.attacks()),
            "confidence": CONFIG.scores.confidence,
        },
        code=code("tabulate_study", "faultline/studies/robustness/tables"),


BETWEEN += outputs(rules.evaluate_robustness, PLAN.together())
