rule analyse_sustainability:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
    output:
        errors=f"{CHECKPOINT}/sustainability/errors.npz",
    log:
        f"{LOGS}/analyse_sustainability.log",
    benchmark:
        f"{BENCHMARKS}/analyse_sustainability.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        # a large network is held several times over
        mem_mb=lambda wildcards, input, attempt: attempt * (2000 + int(3 * input.size_mb)),
        runtime=240,
        gpu=GPU,
    params:
        attacks=attack_settings(*SUSTAIN["perturbers"]),
        settings=ordered({key: SUSTAIN[key] for key in ("at", "split", "images", "noises")}),
        device=config["device"],
        code=code("analyse_sustainability"),
    script:
        "../workflow/analyse_sustainability.py"


rule list_vulnerable:
    input:
        errors=f"{CHECKPOINT}/sustainability/errors.npz",
    output:
        probes=f"{CHECKPOINT}/sustainability/probes.tsv",
        lists=f"{CHECKPOINT}/sustainability/lists.tsv",
    log:
        f"{LOGS}/list_vulnerable.log",
    benchmark:
        f"{BENCHMARKS}/list_vulnerable.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=60,
        gpu=0,
    params:
        eta=SUSTAIN["eta"],
        eta_grid=SUSTAIN["eta_grid"],
        confidence=config["scores"]["confidence"],
        code=code("list_vulnerable"),
    script:
        "../workflow/list_vulnerable.py"
