JUDGED = (SCORED, TARGETED, PERTURBED, SUSTAINED, COMPRESSED)
# Where any method tells of layers, the network is drawn.
MAPPED = [
    {"dataset": dataset, "network": network}
    for dataset, network in sorted(
        {(place["dataset"], place["network"]) for of in JUDGED for place in of}
    )
]


rule map_network:
    """The graph of a network's layers and joins, and the norms of its weights, for the fault map."""
    input:
        data=DATA,
        checkpoints=lambda w: fill(
            f"{CHECKPOINT}/checkpoint.pt",
            [
                place
                for place in PLAN.checkpoints("last")
                if (place["dataset"], place["network"]) == (w.dataset, w.network)
            ],
        ),
    output:
        graph=f"{NETWORK}/graph.tsv",
        norms=f"{NETWORK}/norms.tsv",
    log:
        f"{RESULTS}/logs/{results.NETWORK}/map_network.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000, per_input=3),  # checkpoints are read one by one
        runtime=60,
    params:
        code=code("map_network"),
    script:
        "../workflow/map_network.py"


use rule tabulate_accuracy as tabulate_map with:
    """The tables that the study map gives to the report."""
    input:
        graph=fill(f"{NETWORK}/graph.tsv", MAPPED),
        norms=fill(f"{NETWORK}/norms.tsv", MAPPED),
        layers=TABLES.get("layers", []),
        perturbed=TABLES.get("perturbation_layers", []),
        errors=TABLES.get("sustainability", []),
        targeting=TABLES.get("targeting", []),
        compression=TABLES.get("compression", []),
    output:
        **tables("map", graph=MAPPED, layer_measures=MAPPED, layer_correlations=MAPPED),
    log:
        f"{RESULTS}/logs/tabulate_map.log",
    params:
        study="map",
        settings={"attack": CONFIG.scored_attack, "confidence": CONFIG.scores.confidence},
        code=code("tabulate_study", "faultline/studies/map/tables"),


BETWEEN += outputs(rules.map_network, MAPPED)
