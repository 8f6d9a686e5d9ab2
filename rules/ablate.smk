FILTERING = config["synaptic_filtering"]
DROPOUT = config["nodal_dropout"]


def adversarial_sets(wildcards):
    """The stored adversarial test sets; none where each variant is attacked anew."""
    if config["ablation"]["target"] == "ablated":
        return []
    return [ATTACK.format(attack=a, **place(wildcards)) + "/adversarial.pt" for a in CHOSEN_ATTACKS]


# Stored sets hold all that matters of an attack; only re-crafting needs its settings.
if config["ablation"]["target"] == "ablated":
    ABLATION_ATTACKS = attack_settings(*CHOSEN_ATTACKS)
else:
    ABLATION_ATTACKS = {name: {} for name in CHOSEN_ATTACKS}


rule ablate_layer:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=adversarial_sets,
    output:
        facts=f"{LAYER}/synaptic-filtering.npz",
    params:
        attacks=ABLATION_ATTACKS,
        filters=FILTERING["filters"],
        thresholds=FILTERING["thresholds"],
        device=config["device"],
        code=code("ablate_layer"),
    log:
        f"{LOGS}/layers/{{layer}}/ablate_layer.log",
    benchmark:
        f"{BENCHMARKS}/layers/{{layer}}/ablate_layer.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
        gpu=GPU,
    conda:
        "../envs/faultline.yaml"
    script:
        "../workflow/ablate_layer.py"


rule ablate_global:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=adversarial_sets,
    output:
        facts=f"{CHECKPOINT}/global/synaptic-filtering.npz",
    params:
        attacks=ABLATION_ATTACKS,
        filters=FILTERING["filters"],
        thresholds=FILTERING["thresholds"],
        limits=FILTERING["global_range"],
        device=config["device"],
        code=code("ablate_global"),
    log:
        f"{LOGS}/ablate_global.log",
    benchmark:
        f"{BENCHMARKS}/ablate_global.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
        gpu=GPU,
    conda:
        "../envs/faultline.yaml"
    script:
        "../workflow/ablate_global.py"


rule ablate_filters:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=adversarial_sets,
    output:
        facts=f"{LAYER}/nodal-dropout/{{first}}-{{last}}.npz",
    params:
        attacks=ABLATION_ATTACKS,
        at=DROPOUT["at"],
        device=config["device"],
        code=code("ablate_filters"),
    log:
        f"{LOGS}/layers/{{layer}}/ablate_filters-{{first}}-{{last}}.log",
    benchmark:
        f"{BENCHMARKS}/layers/{{layer}}/ablate_filters-{{first}}-{{last}}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
        gpu=GPU,
    conda:
        "../envs/faultline.yaml"
    script:
        "../workflow/ablate_filters.py"
