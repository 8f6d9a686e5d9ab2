"""Retrain one checkpoint under one policy and judge it, clean and under re-crafted attacks."""

from faultline.run.job import job

with job(snakemake, kept=True):
    import json
    from pathlib import Path

    import pandas as pd

    from faultline.ablation.facts import counted, pack
    from faultline.attacks.craft import judge
    from faultline.attacks.run import crafters
    from faultline.base.files import load_table, save_arrays, save_table, save_tensors
    from faultline.data.splits import test_images
    from faultline.networks.layers import layers as layers_of
    from faultline.run.loading import opened
    from faultline.studies.retraining.frozen import freezable, frozen
    from faultline.studies.sustainability.lists import regularised_layers
    from faultline.training.checkpoints import checkpoint, restore
    from faultline.training.epochs import make_optimizer, train_epochs
    from faultline.training.tuning import applied

    params, wildcards = snakemake.params, snakemake.wildcards
    policy, _, draw = wildcards.policy.partition("-")
    dataset, network, state, _ = opened(snakemake)
    masks, fragile = {}, {}
    if snakemake.input.classes:
        classes = load_table(snakemake.input.classes[0])
        given = freezable(layers_of(network), classes, **params.choice)
        masks = frozen(given, policy=policy, seed=state["seed"], draw=int(draw or 0))
        fragile = frozen(given, policy="selective", seed=state["seed"])

    settings = params.training
    for path in snakemake.input.chosen:
        settings = applied(settings, json.loads(Path(path).read_text(encoding="utf-8")))
    optimizer = make_optimizer(network, settings)
    restore(network, optimizer, state)
    history = train_epochs(
        network,
        optimizer,
        dataset,
        settings=settings,
        seed=state["seed"],
        epochs=range(state["epoch"], state["epoch"] + params.epochs),
        frozen=masks,
        regularised=regularised_layers(settings, *snakemake.input.errors),
    )
    history = pd.DataFrame(history)

    images, labels = test_images(dataset)
    attacks = crafters(params.attacks, dataset, seed=state["seed"], until_fooled=True)
    correct = judge(network, images, labels, attacks=attacks)

    counts = {
        "frozen": sum(int(mask.sum()) for mask in masks.values()),
        "freezable": sum(mask.numel() for mask in masks.values()),
        "fragile": sum(int(mask.sum()) for mask in fragile.values()),
        "fragile_frozen": sum(int((mask & fragile[name]).sum()) for name, mask in masks.items()),
    }
    print("weights and biases: " + ", ".join(f"{key} {n}" for key, n in counts.items()))
    result = pd.DataFrame(counted(correct)).assign(**counts)
    save_table(result, snakemake.output.result)
    save_table(history, snakemake.output.history)
    save_arrays(pack(correct), snakemake.output.correct)
    save_tensors(
        checkpoint(network, optimizer, epoch=state["epoch"] + params.epochs, seed=state["seed"]),
        snakemake.output.network,
    )
