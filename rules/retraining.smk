RETRAIN = CONFIG.retraining
RETRAINED = with_each(PLAN.of_section("retraining", "from_epochs"), "policy", PLAN.policies())
UNIT = {"layer": "layers", "band": "bands"}[RETRAIN.by]


rule retrain:
    """One checkpoint trained on under one policy, what it freezes, and judged anew."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        # what is fragile; `regular` retraining need not know
        classes=lambda w: [f"{CHECKPOINT}/classes/{UNIT}.tsv"] * (w.policy != "regular"),
        chosen=chosen_settings,
        errors=lambda w: standard_errors(w, [w.seed]),
    output:
        result=f"{RETRAINING}/result.tsv",
        history=f"{RETRAINING}/history.tsv",
        correct=f"{RETRAINING}/correct.npz",
        network=f"{RETRAINING}/network.pt",
    log:
        f"{LOGS}/retrain-{{policy}}.log",
    priority: CHAIN
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=480,
        gpu=GPU,
    params:
        training=lambda w: PLAN.segment_settings(w.training, w.network),
        epochs=RETRAIN.epochs,
        attacks=PLAN.attacks(RETRAIN.judged_under),
        choice=lambda w: (
            RETRAIN.dump("by", "filter", "score") | {"attack": CONFIG.scored_attack}
            if w.policy != "regular"
            else {}
        ),
        device=CONFIG.device,
        code=code("retrain"),
    script:
        "../workflow/retrain.py"


use rule tabulate_accuracy as tabulate_retraining with:
    """The tables that the study retraining gives to the report."""
    input:
        result=fill(f"{RETRAINING}/result.tsv", RETRAINED),
        correct=fill(f"{RETRAINING}/correct.npz", RETRAINED),
    output:
        **tables("retraining", retraining=RETRAINED, comparison=RETRAINED),
    log:
        f"{RESULTS}/logs/tabulate_retraining.log",
    params:
        study="retraining",
        settings={"confidence": CONFIG.scores.confidence, "tests": RETRAIN.tests},
        code=code("tabulate_study", "faultline/studies/retraining/tables"),


BETWEEN += outputs(rules.retrain, RETRAINED)
