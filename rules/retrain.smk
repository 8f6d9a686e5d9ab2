rule retrain:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        classes=deciding_classes,
        chosen=chosen_settings,
        errors=lambda w: standard_errors(w, [w.seed]),
    output:
        result=f"{RETRAINING}/result.tsv",
        history=f"{RETRAINING}/history.tsv",
        correct=f"{RETRAINING}/correct.npz",
        network=f"{RETRAINING}/network.pt",
    log:
        f"{LOGS}/retrain-{{policy}}.log",
    benchmark:
        f"{BENCHMARKS}/retrain-{{policy}}.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=480,
        gpu=GPU,
    params:
        training=training_settings,
        epochs=RETRAIN["epochs"],
        attacks=attack_settings(*RETRAIN["judged_under"]),
        choice=lambda wildcards: (
            {}
            if wildcards.policy == "regular"
            else {key: RETRAIN[key] for key in ("attack", "by", "filter", "score")}
        ),
        device=config["device"],
        code=code("retrain"),
    script:
        "../workflow/retrain.py"
