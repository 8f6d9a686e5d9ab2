"""One segment of the training chain: from the previous checkpoint epoch to the next."""

from faultline.run.job import job, torch_device

with job(snakemake, kept=True):
    import pandas as pd

    from faultline.base.files import load_tensors, save_table, save_tensors
    from faultline.run.loading import chosen_settings, load_dataset, starting_network
    from faultline.studies.sustainability.lists import load_errors, regularised_layers
    from faultline.training.epochs import HISTORY
    from faultline.training.segments import train_segment
    from faultline.training.tuning import applied
    from faultline.training.unfinished import Unfinished

    files, params, wildcards = snakemake.input, snakemake.params, snakemake.wildcards
    device, seed = torch_device(snakemake), int(wildcards.seed)
    dataset = load_dataset(files.data, device)
    network = starting_network(snakemake, dataset, seed=seed, device=device)
    if chosen := chosen_settings(files.chosen):
        print(f"tuned: {chosen}")
    settings = applied(params.settings, chosen)
    keys = ("network", "optimizer", "epoch", "history")
    previous = [load_tensors(p, "a checkpoint", keys=keys, device=device) for p in files.previous]
    begun_from = [params.settings, params.own, params.weights_key, params.code]
    unfinished = Unfinished(snakemake.output.checkpoint, begun_from, files=files)
    checkpoint = train_segment(
        network,
        dataset,
        settings=settings,
        seed=seed,
        last=int(wildcards.epoch),
        previous=previous[0] if previous else None,
        regularised=regularised_layers(settings, *map(load_errors, files.errors)),
        own=params.own,
        unfinished=unfinished,
    )
    history = pd.DataFrame(checkpoint["history"], columns=HISTORY)
    save_table(history, snakemake.output.history)
    save_tensors(checkpoint, snakemake.output.checkpoint)
    unfinished.discard()
