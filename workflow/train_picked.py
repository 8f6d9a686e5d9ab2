"""Train one checkpoint on where a criterion picks, all else frozen, and judge it, clean and under
re-crafted attacks."""

from faultline.run.job import job

with job(snakemake, kept=True):
    import json
    from pathlib import Path

    import numpy as np
    import pandas as pd

    from faultline.ablation.facts import counted, pack
    from faultline.attacks.craft import judge
    from faultline.attacks.run import crafters
    from faultline.base.files import load_table, save_arrays, save_table
    from faultline.data.splits import images_of, test_images
    from faultline.networks.layers import layers as layers_of
    from faultline.run.loading import opened
    from faultline.studies.criteria.picked import (
        interpolate,
        order_of,
        picked,
        random_order,
        settings_of,
    )
    from faultline.training.checkpoints import restore
    from faultline.training.epochs import make_optimizer, train_epochs
    from faultline.training.tuning import applied

    params, wildcards = snakemake.params, snakemake.wildcards
    criterion, _, draw = wildcards.criterion.partition("-")
    dataset, network, state, _ = opened(snakemake)
    seed, layers = state["seed"], layers_of(network)
    ((_, attack),) = params.attack.items()
    settings = params.training
    for path in snakemake.input.chosen:
        settings = applied(settings, json.loads(Path(path).read_text(encoding="utf-8")))
    settings = settings_of(settings, recipe=wildcards.recipe, attack=attack)

    masks = {}
    if draw:
        scored = [name for name in params.layers if name in layers]
        order = random_order(layers, scored, seed=seed, draw=int(draw))
        masks = picked(layers, order, share=params.share)
    elif snakemake.input.criteria:
        table = load_table(snakemake.input.criteria[0])
        table = table[table["criterion"] == criterion]
        order = order_of(layers, table, lowest=params.lowest, seed=seed)
        masks = picked(layers, order, share=params.share)

    optimizer = make_optimizer(network, settings)
    restore(network, optimizer, state)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    epochs = range(state["epoch"], state["epoch"] + params.epochs * (criterion != "none"))
    history = train_epochs(
        network,
        optimizer,
        dataset,
        settings=settings,
        seed=seed,
        epochs=epochs,
        frozen={name: ~mask for name, mask in masks.items()},
    )
    for _ in history:
        pass
    network.eval()

    def accuracy():
        images, labels = images_of(dataset, "validation", params.images)
        attacks = crafters(params.attack, dataset, seed=seed, until_fooled=True)
        return np.mean([v.mean() for v in judge(network, images, labels, attacks=attacks).values()])

    share = interpolate(network, before, shares=params.interpolations, accuracy=accuracy)

    images, labels = test_images(dataset)
    attacks = crafters(params.attacks, dataset, seed=seed, until_fooled=True)
    correct = judge(network, images, labels, attacks=attacks)
    trainable = sum({id(p): p.numel() for of in layers.values() for p in of.parameters()}.values())
    trained = {"none": 0, "full": trainable}.get(
        criterion, sum(int(mask.sum()) for mask in masks.values())
    )
    print(f"{trained} of {trainable} parameters of layers trained; moved by {share:g} of the way")
    result = pd.DataFrame(counted(correct))
    result = result.assign(trained=trained, trainable=trainable, moved=share)
    save_table(result, snakemake.output.result)
    save_arrays(pack(correct), snakemake.output.correct)
