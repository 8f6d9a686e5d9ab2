rule tune:
    input:
        data=DATA,
        taken=taken_settings,
        errors=tuning_errors,
    output:
        chosen=f"{TUNING}/chosen.json",
        candidates=f"{TUNING}/candidates.tsv",
    log:
        f"{RESULTS}/logs/{{dataset}}/{{network}}/{{training}}/tune.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{dataset}}/{{network}}/{{training}}/tune.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=1440,
        gpu=GPU,
    params:
        settings=training_settings,
        tune=tuning_settings,
        epochs=tuning_epochs,
        attack=lambda w: attack_settings(tuning_settings(w)["attack"]),
        device=config["device"],
        code=code("tune"),
    script:
        "../workflow/tune.py"
