"""One segment of the training chain: from the previous checkpoint epoch to the next."""

from faultline.run.job import job, torch_device

with job(snakemake, kept=True):
    import json
    from pathlib import Path

    import pandas as pd

    from faultline.base.errors import printable
    from faultline.base.files import load_state_dict, load_tensors, save_table, save_tensors
    from faultline.networks.weights import load_weights
    from faultline.run.loading import build_network, load_dataset
    from faultline.studies.sustainability.lists import regularised_layers
    from faultline.training.checkpoints import checkpoint, restore
    from faultline.training.epochs import HISTORY, make_optimizer, train_epochs
    from faultline.training.tuning import applied
    from faultline.training.unfinished import Unfinished

    params, wildcards = snakemake.params, snakemake.wildcards
    device, seed, last = torch_device(snakemake), int(wildcards.seed), int(wildcards.epoch)
    dataset = load_dataset(snakemake.input.data, device)
    network = build_network(wildcards.network, dataset, seed=seed, device=device)
    for path in snakemake.input.weights:
        load_weights(
            network,
            load_state_dict(path, params.weights_key),
            origin=f"{path}, for {wildcards.network}",
            moments_key=dataset.moments_key,
        )
        under = f", under {params.weights_key}" if params.weights_key else ""
        print(f"starting from the weights in {printable(path)}{under}")
    settings = params.settings
    for path in snakemake.input.chosen:
        chosen = json.loads(Path(path).read_text(encoding="utf-8"))
        settings = applied(settings, chosen)
        print(f"tuned: {chosen}")
    layers = regularised_layers(settings, *snakemake.input.errors)
    optimizer = make_optimizer(network, settings)

    state = {"epoch": 0, "history": []}
    if snakemake.input.previous:
        keys = ("network", "optimizer", "epoch", "history")
        state = load_tensors(snakemake.input.previous[0], "a checkpoint", keys=keys, device=device)
    begun_from = [params.settings, params.own, params.weights_key, params.code]
    unfinished = Unfinished(snakemake.output.checkpoint, begun_from, files=snakemake.input)
    if resumed := unfinished.load(device=device):
        state = resumed
        print(f"resuming after epoch {state['epoch']}")
    if "network" in state:
        restore(network, optimizer, state)

    history = state["history"]
    facts = {"epoch": state["epoch"], "seed": seed, "history": history}
    if params.own:  # whoever reads the checkpoint depends on the code of its network as well
        facts["own"] = params.own
    epochs = range(state["epoch"], last)
    for row in train_epochs(
        network,
        optimizer,
        dataset,
        settings=settings,
        seed=seed,
        epochs=epochs,
        regularised=layers,
    ):
        history.append(row)
        facts["epoch"] = row["epoch"]
        if row["epoch"] < last:
            unfinished.save(checkpoint(network, optimizer, **facts))

    save_table(pd.DataFrame(history, columns=HISTORY), snakemake.output.history)
    save_tensors(checkpoint(network, optimizer, **facts), snakemake.output.checkpoint)
    unfinished.discard()
