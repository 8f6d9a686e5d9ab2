"""How far each perturber moves each layer of a checkpoint, and which layers are most vulnerable."""

from faultline.job import job, torch_device

with job(snakemake):
    from faultline.experiment import load_dataset, load_network, perturbers
    from faultline.files import save_arrays, save_table
    from faultline.sustainability import analyse, lists, probe_table

    params, device = snakemake.params, torch_device(snakemake)
    settings = params.settings
    dataset = load_dataset(snakemake.input.data, device)
    network, state = load_network(
        snakemake.input.checkpoint, snakemake.wildcards.network, dataset, device=device
    )
    images, labels = (part[: settings["images"]] for part in dataset.splits[settings["split"]])
    errors = analyse(
        network,
        dataset.pixels(images),
        labels,
        perturbers=perturbers(params.attacks, settings["noises"], dataset, seed=state["seed"]),
        at=settings["at"],
    )
    arrays = {
        f"{perturber}/{probe}": values
        for perturber, by_probe in errors.items()
        for probe, values in by_probe.items()
    }
    found = lists(errors, etas=settings["eta_grid"])
    save_arrays(arrays, snakemake.output.errors)
    save_table(
        probe_table(errors, eta=settings["eta"], confidence=params.confidence),
        snakemake.output.probes,
    )
    save_table(found, snakemake.output.lists)
