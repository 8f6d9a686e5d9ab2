rule attack:
    """One attack on one checkpoint: accuracy over eps on test images, with self-checks."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
    output:
        accuracy=f"{ATTACK}/accuracy.tsv",
        checks=f"{ATTACK}/checks.tsv",
        correct=f"{ATTACK}/correct.npz",
    log:
        f"{LOGS}/attack-{{attack}}.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        attack=lambda w: PLAN.attacks([w.attack])[w.attack],
        device=CONFIG.device,
        code=code("attack"),
    script:
        "../workflow/attack.py"


rule craft:
    """The adversarial images of one attack on one checkpoint, for ablated networks to be judged on."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
    output:
        adversarial=f"{ATTACK}/adversarial.pt",
    log:
        f"{LOGS}/craft-{{attack}}.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        attack=lambda w: PLAN.attacks([w.attack])[w.attack],
        images=lambda w: PLAN.crafted_images(w.attack),
        split=CONFIG.ablation.split,
        device=CONFIG.device,
        code=code("craft"),
    script:
        "../workflow/craft.py"


# Each study has such a rule: what it gives to the report, as one table of a kind for the whole run.
rule tabulate_accuracy:
    """The tables that the study accuracy gives to the report."""
    input:
        accuracy=of_all_attacks("accuracy.tsv"),
        checks=of_all_attacks("checks.tsv"),
        correct=of_all_attacks("correct.npz"),
        history=fill(f"{CHECKPOINT}/history.tsv", PLAN.checkpoints("last")),
    output:
        **tables("accuracy", history=any(place["epoch"] for place in PLAN.checkpoints("last"))),
    log:
        f"{RESULTS}/logs/tabulate_accuracy.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        study="accuracy",
        settings={
            "attacks": PLAN.attacks(),
            "judges": CONFIG.ablation.attacks,
            "masking": CONFIG.robustness.masking,
            "confidence": CONFIG.scores.confidence,
        },
        code=code("tabulate_study", "faultline/studies/accuracy/tables"),
    script:
        "../workflow/tabulate_study.py"


BETWEEN += outputs(rules.attack, PLAN.attacked())
