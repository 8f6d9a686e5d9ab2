rule evaluate_robustness:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
    output:
        accuracy=f"{CHECKPOINT}/robustness/accuracy.tsv",
        checks=f"{CHECKPOINT}/robustness/checks.tsv",
        correct=f"{CHECKPOINT}/robustness/correct.npz",
    log:
        f"{LOGS}/evaluate_robustness.log",
    benchmark:
        f"{BENCHMARKS}/evaluate_robustness.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=480,
        gpu=GPU,
    params:
        attacks=attack_settings(*ROBUST["attacks"]),
        device=config["device"],
        code=code("evaluate_robustness"),
    script:
        "../workflow/evaluate_robustness.py"
