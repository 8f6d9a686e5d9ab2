rule prepare_data:
    """One seeded split of a data set into train, validation and test."""
    input:
        images=lambda w: PLAN.own_files(w.dataset),
    output:
        data=DATA,
    log:
        f"{RESULTS}/logs/{{dataset}}/prepare_data.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        settings=lambda w: ordered(CONFIG.datasets[w.dataset].dump()),
        code=code("prepare_data"),
    script:
        "../workflow/prepare_data.py"


BETWEEN += outputs(rules.prepare_data, [{"dataset": name} for name in CONFIG.datasets])
