"""The search for a training's settings: every candidate, judged on the validation split."""

from faultline.run.job import job, torch_device

with job(snakemake, kept=True):
    import json
    from functools import partial

    from faultline.base.files import save_table, save_text
    from faultline.run.loading import build_network, chosen_settings, load_dataset
    from faultline.studies.sustainability.lists import load_errors, regularised_layers
    from faultline.training.tuning import search
    from faultline.training.unfinished import Unfinished

    files, params, device = snakemake.input, snakemake.params, torch_device(snakemake)
    dataset = load_dataset(files.data, device)
    by_seed = [*map(load_errors, files.errors)]
    begun_from = [params.tune, params.epochs, params.settings, params.attack, params.code]
    unfinished = Unfinished(snakemake.output.chosen, begun_from, files=files)
    candidates, chosen = search(
        dataset,
        partial(build_network, snakemake.wildcards.network, dataset, device=device),
        tune=params.tune,
        settings=params.settings,
        epochs=params.epochs,
        attack=params.attack,
        taken=chosen_settings(files.taken),
        regularised=lambda of, at: regularised_layers(of, by_seed[at] if by_seed else None),
        unfinished=unfinished,
    )
    save_table(candidates, snakemake.output.candidates)
    save_text(json.dumps(chosen, sort_keys=True), snakemake.output.chosen)
    unfinished.discard()
