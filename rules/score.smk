rule score:
    input:
        local=lambda w: [
            f"{LAYER}/synaptic-filtering.npz".format(layer=layer, **w)
            for layer in filtered_layers(w)
        ],
        all_layers=[f"{CHECKPOINT}/global/synaptic-filtering.npz"] * FILTERING["global"],
        nodal=lambda w: [
            f"{LAYER}/nodal-dropout/{{first}}-{{last}}.npz".format(**job, **w)
            for job in dropout_jobs(w)
        ],
    output:
        layers=f"{CHECKPOINT}/scores/layers.tsv",
        filters=f"{CHECKPOINT}/scores/filters.tsv",
        bands=f"{CHECKPOINT}/scores/bands.tsv",
        curves=f"{CHECKPOINT}/scores/curves.tsv",
    log:
        f"{LOGS}/score.log",
    benchmark:
        f"{BENCHMARKS}/score.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=60,
        gpu=0,
    params:
        where=place,
        layers=filtered_layers,
        nodal_layers=lambda w: [job["layer"] for job in dropout_jobs(w)],
        baseline=config["scores"]["baseline"],
        integration=config["scores"]["integration"],
        confidence=config["scores"]["confidence"],
        code=code("score"),
    script:
        "../workflow/score.py"
