def previous_epoch(wildcards):
    """The checkpoint epoch before this one, or None for the first."""
    epochs = config["trainings"][wildcards.training]["epochs"]
    place = epochs.index(int(wildcards.epoch))
    return epochs[place - 1] if place else None


def previous_checkpoint(wildcards):
    epoch = previous_epoch(wildcards)
    if epoch is None:
        return []
    return [CHECKPOINT.format(**{**wildcards, "epoch": epoch}) + "/checkpoint.pt"]


rule train:
    input:
        data=DATA,
        previous=previous_checkpoint,
    output:
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        history=f"{CHECKPOINT}/history.tsv",
    params:
        settings=training_settings,
        device=config["device"],
        code=code("train"),
    log:
        f"{LOGS}/train.log",
    benchmark:
        f"{BENCHMARKS}/train.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=720,
        gpu=GPU,
    conda:
        "../envs/faultline.yaml"
    script:
        "../workflow/train.py"
