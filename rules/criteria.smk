REFEREE, JUDGED = CONFIG.criteria, PLAN.by_criteria()
USE, TRAINED = REFEREE.use, PLAN.picked()


rule judge_criteria:
    """The criteria of the config, applied to the layers and filters of one checkpoint."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        weights=given_weights,
    output:
        judged=f"{CHECKPOINT}/criteria/judged.tsv",
    log:
        f"{LOGS}/judge_criteria.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000, per_input=3),  # a large network is held several times over
        runtime=240,
        gpu=GPU,
    params:
        layers=lambda w: select_layers(w.network, REFEREE.layers, called=True),
        methods=REFEREE.methods,
        own=[with_code({"function": method}, "function") for method in REFEREE.methods],
        weights_key=given_key,
        attack=PLAN.attacks([REFEREE.attack] if JUDGED else []),
        images=REFEREE.images,
        draws=REFEREE.draws,
        device=CONFIG.device,
        code=code("judge_criteria"),
    script:
        "../workflow/judge_criteria.py"


rule gather_criteria:
    """What every criterion says of one checkpoint, with what other studies say of validation images."""
    input:
        judged=f"{CHECKPOINT}/criteria/judged.tsv",
        layers=earlier_result("scores/layers.tsv", SCORED),
        filters=earlier_result("scores/filters.tsv", SCORED),
        perturbed=earlier_result("perturbations/layers.tsv", PERTURBED),
        probes=earlier_result("sustainability/probes.tsv", SUSTAINED, SUSTAIN.split == "validation"),
    output:
        criteria=f"{CHECKPOINT}/criteria.tsv",
    log:
        f"{LOGS}/gather_criteria.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(1000),
        runtime=60,
    params:
        layers=lambda w: select_layers(w.network, REFEREE.layers, called=True),
        attack=REFEREE.attack,
        code=code("gather_criteria"),
    script:
        "../workflow/gather_criteria.py"


rule remove_units:
    """A layer of one checkpoint removed whole, and each of its filters: which test images stay correct."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        adversarial=[],
        chosen=[],
    output:
        facts=f"{LAYER}/removal.npz",
    log:
        f"{LOGS}/layers/{{layer}}/remove_units.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000, per_input=3),
        runtime=480,
        gpu=GPU,
    params:
        sets={
            "images": REFEREE.judged_on,
            "split": "test",
            "transferred": [],
            "stressed": {},
            "recrafted": PLAN.attacks(REFEREE.judged_under),
        },
        most=REFEREE.filters,
        device=CONFIG.device,
        code=code("remove_units"),
    script:
        "../workflow/remove_units.py"


rule train_picked:
    """One checkpoint trained on where a criterion picks, all else frozen, and judged anew."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        criteria=lambda w: [f"{CHECKPOINT}/criteria.tsv"]
        * bool(USE.ranked(w.criterion)["criterion"]),
        chosen=chosen_settings,
        shifted=lambda w: shifted_sets(w, w.recipe),
    output:
        result=f"{PICKED}/result.tsv",
        correct=f"{PICKED}/correct.npz",
    log:
        f"{LOGS}/criteria/{{recipe}}/{{criterion}}.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=480,
        gpu=GPU,
    params:
        **USE.dump("share", "epochs", "interpolations"),
        training=lambda w: PLAN.segment_settings(w.training, w.network),
        layers=lambda w: select_layers(w.network, REFEREE.layers, called=True),
        ranked=lambda w: USE.ranked(w.criterion),
        images=REFEREE.images,
        attack=PLAN.attacks([REFEREE.attack] if JUDGED else []),
        attacks=lambda w: PLAN.attacks([] if shift_of(w.recipe)[1] else USE.judged_under),
        device=CONFIG.device,
        code=code("train_picked"),
    script:
        "../workflow/train_picked.py"


use rule tabulate_accuracy as tabulate_criteria with:
    """The tables that the study criteria gives to the report."""
    input:
        criteria=fill(f"{CHECKPOINT}/criteria.tsv", JUDGED),
        removals=fill(f"{LAYER}/removal.npz", with_each_layer(JUDGED, REFEREE.layers)),
        result=fill(f"{PICKED}/result.tsv", TRAINED),
        correct=fill(f"{PICKED}/correct.npz", TRAINED),
    output:
        **tables(
            "criteria",
            **dict.fromkeys(("criteria", "removals", "predictions", "criteria_agreement"), JUDGED),
            **dict.fromkeys(("criteria_use", "criteria_gains", "referee"), TRAINED),
            criteria_tests=USE.tests and TRAINED,
        ),
    log:
        f"{RESULTS}/logs/tabulate_criteria.log",
    params:
        study="criteria",
        settings={
            "top_share": REFEREE.top_share,
            "permutations": REFEREE.permutations,
            "confidence": CONFIG.scores.confidence,
            "tests": [[USE.methods[0], of] for of in USE.tests],
        },
        code=code("tabulate_study", "faultline/studies/criteria/tables"),


BETWEEN += outputs(rules.judge_criteria, JUDGED)
BETWEEN += outputs(rules.gather_criteria, JUDGED)
BETWEEN += outputs(rules.remove_units, with_each_layer(JUDGED, REFEREE.layers))
BETWEEN += outputs(rules.train_picked, TRAINED)
