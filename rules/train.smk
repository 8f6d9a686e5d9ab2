rule tune:
    """A search for the settings of a training, judged on validation images."""
    input:
        data=DATA,
        taken=lambda w: chosen_settings(w, by=PLAN.taken_from),
        errors=lambda w: standard_errors(w, PLAN.training(w.training).tune.seeds),
    output:
        chosen=f"{TUNING}/chosen.json",
        candidates=f"{TUNING}/candidates.tsv",
    log:
        f"{RESULTS}/logs/{results.OF_RUN}/tune.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=1440,
        gpu=GPU,
    params:
        settings=lambda w: PLAN.segment_settings(w.training, w.network),
        tune=lambda w: PLAN.tuning_settings(w.training),
        epochs=lambda w: PLAN.tuning_epochs(w.training),
        attack=lambda w: PLAN.attacks([PLAN.tuning_settings(w.training)["attack"]]),
        device=CONFIG.device,
        code=code("tune"),
    script:
        "../workflow/tune.py"


rule train:
    """One segment of a training, from the checkpoint before it to its own."""
    input:
        data=DATA,
        previous=lambda w: [
            f"{CHECKPOINT}/checkpoint.pt".format(**place(w) | {"epoch": epoch})
            for epoch in [PLAN.previous_epoch(w.training, int(w.epoch))]
            if epoch is not None
        ],
        weights=lambda w: filter(None, [PLAN.given_weights(w.network, w.training, int(w.epoch))]),
        chosen=chosen_settings,
        errors=lambda w: standard_errors(w, [w.seed]),
    output:
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        history=f"{CHECKPOINT}/history.tsv",
    log:
        f"{LOGS}/train.log",
    priority: CHAIN
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=720,
        gpu=GPU,
    params:
        settings=lambda w: PLAN.segment_settings(w.training, w.network),
        own=lambda w: PLAN.own_network(w.network),
        weights_key=lambda w: PLAN.weights_key(w.network, w.training, int(w.epoch)),
        device=CONFIG.device,
        code=code("train"),
    script:
        "../workflow/train.py"


BETWEEN += outputs(rules.tune, PLAN.tuned())
BETWEEN += outputs(rules.train, PLAN.checkpoints())
for listed in PLAN.listed():
    BETWEEN += outputs(
        rules.train,
        with_each([listed], "epoch", PLAN.training(listed["training"]).epochs),
    )
