"""How far each perturber moves what each layer of one checkpoint puts out, image by image."""

from faultline.run.job import job, torch_device

with job(snakemake):
    from faultline.base.files import save_arrays
    from faultline.run.loading import load_dataset, load_network
    from faultline.studies.sustainability.analysis import analyse, perturbers

    params, device = snakemake.params, torch_device(snakemake)
    settings = params.settings
    dataset = load_dataset(snakemake.input.data, device)
    network, state = load_network(
        snakemake.input.checkpoint, snakemake.wildcards.network, dataset, device=device
    )
    # a split is in a stratified order, so its first images are a fair sample of it
    images, labels = (part[: settings["images"]] for part in dataset.splits[settings["split"]])
    errors = analyse(
        network,
        images,
        labels,
        pixels=dataset.pixels,
        perturbers=perturbers(params.attacks, settings["noises"], dataset, seed=state["seed"]),
        at=settings["at"],
    )
    arrays = {
        f"{perturber}/{probe}": values
        for perturber, by_probe in errors.items()
        for probe, values in by_probe.items()
    }
    save_arrays(arrays, snakemake.output.errors)
