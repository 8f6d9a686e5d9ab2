rule prepare_data:
    input:
        images=own_images,
    output:
        data=DATA,
    log:
        f"{RESULTS}/logs/{{dataset}}/prepare_data.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{dataset}}/prepare_data.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=60,
        gpu=0,
    params:
        settings=lambda wildcards: ordered(config["datasets"][wildcards.dataset]),
        code=code("prepare_data"),
    script:
        "../workflow/prepare_data.py"
