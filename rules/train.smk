rule train:
    input:
        data=DATA,
        previous=previous_checkpoint,
        weights=given_weights,
        chosen=chosen_settings,
        errors=lambda w: standard_errors(w, [w.seed]),
    output:
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        history=f"{CHECKPOINT}/history.tsv",
    log:
        f"{LOGS}/train.log",
    benchmark:
        f"{BENCHMARKS}/train.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=720,
        gpu=GPU,
    params:
        settings=training_settings,
        own=lambda w: with_code(config["own_networks"].get(w.network, {}), "function"),
        device=config["device"],
        code=code("train"),
    script:
        "../workflow/train.py"
