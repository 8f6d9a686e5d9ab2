COMPRESSION, COMPRESSED = CONFIG.compression, PLAN.of_section("compression")


rule compress:
    """One checkpoint with fewer bits or weights: each layer alone, then together."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
    output:
        alone=f"{CHECKPOINT}/compression/alone.tsv",
        together=f"{CHECKPOINT}/compression/together.tsv",
        precision=f"{CHECKPOINT}/compression/precision.json",
    log:
        f"{LOGS}/compress.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000, per_input=3),
        runtime=240,
        gpu=GPU,
    params:
        layers=lambda w: select_layers(w.network, COMPRESSION.layers),
        bits=COMPRESSION.bits,
        inputs=COMPRESSION.inputs,
        scales=COMPRESSION.scales,
        prune=COMPRESSION.prune,
        loss=COMPRESSION.loss,
        confidence=CONFIG.scores.confidence,
        device=CONFIG.device,
        code=code("compress"),
    script:
        "../workflow/compress.py"


use rule tabulate_accuracy as tabulate_compression with:
    """The tables that the study compression gives to the report."""
    input:
        alone=fill(f"{CHECKPOINT}/compression/alone.tsv", COMPRESSED),
        together=fill(f"{CHECKPOINT}/compression/together.tsv", COMPRESSED),
    output:
        **tables("compression", **dict.fromkeys(tables_of("compression"), COMPRESSED)),
    log:
        f"{RESULTS}/logs/tabulate_compression.log",
    params:
        study="compression",
        settings={},
        code=code("tabulate_study", "faultline/studies/compression/tables"),


BETWEEN += outputs(rules.compress, COMPRESSED)
