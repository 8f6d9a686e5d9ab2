rule attack:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
    output:
        accuracy=f"{ATTACK}/accuracy.tsv",
        checks=f"{ATTACK}/checks.tsv",
        correct=f"{ATTACK}/correct.npz",
        adversarial=f"{ATTACK}/adversarial.pt",
    log:
        f"{LOGS}/attack-{{attack}}.log",
    benchmark:
        f"{BENCHMARKS}/attack-{{attack}}.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        attack=lambda wildcards: attack_settings(wildcards.attack)[wildcards.attack],
        device=config["device"],
        code=code("attack"),
    script:
        "../workflow/attack.py"
