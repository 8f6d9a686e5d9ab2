rule analyse_sustainability:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
    output:
        errors=f"{CHECKPOINT}/sustainability/errors.npz",
        probes=f"{CHECKPOINT}/sustainability/probes.tsv",
        lists=f"{CHECKPOINT}/sustainability/lists.tsv",
    log:
        f"{LOGS}/analyse_sustainability.log",
    benchmark:
        f"{BENCHMARKS}/analyse_sustainability.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
        gpu=GPU,
    params:
        attacks=attack_settings(*SUSTAIN["perturbers"]),
        settings=ordered(
            {key: SUSTAIN[key] for key in ("at", "split", "images", "noises", "eta", "eta_grid")}
        ),
        confidence=config["scores"]["confidence"],
        device=config["device"],
        code=code("analyse_sustainability"),
    script:
        "../workflow/analyse_sustainability.py"
