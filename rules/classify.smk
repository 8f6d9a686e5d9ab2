rule classify:
    input:
        layers=f"{CHECKPOINT}/scores/layers.tsv",
        filters=f"{CHECKPOINT}/scores/filters.tsv",
        bands=f"{CHECKPOINT}/scores/bands.tsv",
    output:
        layers=f"{CHECKPOINT}/classes/layers.tsv",
        filters=f"{CHECKPOINT}/classes/filters.tsv",
        bands=f"{CHECKPOINT}/classes/bands.tsv",
    log:
        f"{LOGS}/classify.log",
    benchmark:
        f"{BENCHMARKS}/classify.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=30,
        gpu=0,
    params:
        tau=ordered(config["classes"]["tau"]),
        code=code("classify"),
    script:
        "../workflow/classify.py"
