rule target_filters:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=lambda w: paths(
            f"{ATTACK}/adversarial.pt", with_each([place(w)], "attack", TARGET["attacks"])
        ),
    output:
        targeting=f"{CHECKPOINT}/targeting/filters.tsv",
        kernels=f"{CHECKPOINT}/targeting/kernels.tsv",
    log:
        f"{LOGS}/target_filters.log",
    benchmark:
        f"{BENCHMARKS}/target_filters.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=60,
        gpu=GPU,
    params:
        layers=lambda w: select_layers(w.network, TARGET["layers"]),
        attacks=TARGET["attacks"],
        images=config["ablation"]["images"],
        at=TARGET["at"],
        device=config["device"],
        code=code("target_filters"),
    script:
        "../workflow/target_filters.py"


rule choose_gains:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
    output:
        gains=f"{CHECKPOINT}/remedy/gains.tsv",
        strengths=f"{CHECKPOINT}/remedy/strengths.tsv",
    log:
        f"{LOGS}/choose_gains.log",
    benchmark:
        f"{BENCHMARKS}/choose_gains.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        layers=lambda w: select_layers(w.network, MEND["layers"]),
        at=DROPOUT["at"],
        strengths=MEND["strengths"],
        attacks=attack_settings(*MEND["judged_under"]),
        device=config["device"],
        code=code("choose_gains"),
    script:
        "../workflow/choose_gains.py"


rule remedy:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        gains=f"{CHECKPOINT}/remedy/gains.tsv",
    output:
        result=f"{REMEDY}/result.tsv",
        correct=f"{REMEDY}/correct.npz",
        network=f"{REMEDY}/network.pt",
    log:
        f"{LOGS}/remedy-{{policy}}.log",
    benchmark:
        f"{BENCHMARKS}/remedy-{{policy}}.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        attacks=attack_settings(*MEND["judged_under"]),
        device=config["device"],
        code=code("remedy"),
    script:
        "../workflow/remedy.py"
