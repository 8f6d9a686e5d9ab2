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
    log:
        f"{LOGS}/layers/{{layer}}/ablate_layer.log",
    benchmark:
        f"{BENCHMARKS}/layers/{{layer}}/ablate_layer.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        attacks=ABLATION_ATTACKS,
        images=config["ablation"]["images"],
        filters=FILTERING["filters"],
        thresholds=FILTERING["thresholds"],
        device=config["device"],
        code=code("ablate_layer"),
    script:
        "../workflow/ablate_layer.py"


rule ablate_global:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=adversarial_sets,
    output:
        facts=f"{CHECKPOINT}/global/synaptic-filtering.npz",
    log:
        f"{LOGS}/ablate_global.log",
    benchmark:
        f"{BENCHMARKS}/ablate_global.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        attacks=ABLATION_ATTACKS,
        images=config["ablation"]["images"],
        filters=FILTERING["filters"],
        thresholds=FILTERING["thresholds"],
        limits=FILTERING["global_range"],
        device=config["device"],
        code=code("ablate_global"),
    script:
        "../workflow/ablate_global.py"


rule ablate_filters:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=adversarial_sets,
    output:
        facts=f"{LAYER}/nodal-dropout/{{first}}-{{last}}.npz",
    log:
        f"{LOGS}/layers/{{layer}}/ablate_filters-{{first}}-{{last}}.log",
    benchmark:
        f"{BENCHMARKS}/layers/{{layer}}/ablate_filters-{{first}}-{{last}}.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        attacks=ABLATION_ATTACKS,
        images=config["ablation"]["images"],
        at=DROPOUT["at"],
        device=config["device"],
        code=code("ablate_filters"),
    script:
        "../workflow/ablate_filters.py"


rule ablate_own:
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=adversarial_sets,
    output:
        facts=OWN_ABLATION,
    log:
        f"{LOGS}/layers/{{layer}}/ablate_own-{{ablation}}.log",
    benchmark:
        f"{BENCHMARKS}/layers/{{layer}}/ablate_own-{{ablation}}.tsv"
    conda:
        "../envs/faultline.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=240,
        gpu=GPU,
    params:
        attacks=ABLATION_ATTACKS,
        images=config["ablation"]["images"],
        ablation=lambda w: {
            key: value
            for key, value in with_code(config["ablations"][w.ablation], "function").items()
            if key in ("function", "options", "code")
        },
        device=config["device"],
        code=code("ablate_own"),
    script:
        "../workflow/ablate_own.py"
