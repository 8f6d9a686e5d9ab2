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
        mem_mb=2000,
        runtime=1440,
        gpu=GPU,
    params:
        settings=training_settings,
        tune=lambda w: ordered(config["trainings"][w.training]["tune"]),
        epochs=lambda w: config["trainings"][w.training]["epochs"][-1],
        attack=lambda w: ordered(
            config["attacks"][config["trainings"][w.training]["tune"]["attack"]]
        ),
        device=config["device"],
        code=code("tune"),
    script:
        "../workflow/tune.py"
