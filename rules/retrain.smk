RETRAIN = config["retraining"]


def deciding_classes(wildcards):
    """The classes that say what is fragile; `regular` retraining needs none."""
    if wildcards.policy == "regular":
        return []
    unit = {"layer": "layers", "band": "bands"}[RETRAIN["by"]]
    return [f"{CHECKPOINT}/classes/{unit}.tsv".format(**place(wildcards))]


rule retrain:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        classes=deciding_classes,
    output:
        result=f"{RETRAINING}/result.tsv",
        history=f"{RETRAINING}/history.tsv",
        correct=f"{RETRAINING}/correct.npz",
        network=f"{RETRAINING}/network.pt",
    params:
        training=training_settings,
        epochs=RETRAIN["epochs"],
        attacks=attack_settings(*CHOSEN_ATTACKS),
        choice=lambda wildcards: (
            {}
            if wildcards.policy == "regular"
            else {key: RETRAIN[key] for key in ("attack", "by", "filter", "score")}
        ),
        device=config["device"],
        code=code("retrain"),
    log:
        f"{LOGS}/retrain-{{policy}}.log",
    benchmark:
        f"{BENCHMARKS}/retrain-{{policy}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=480,
        gpu=GPU,
    conda:
        "../envs/faultline.yaml"
    script:
        "../workflow/retrain.py"
