"""Retrain one checkpoint under one policy and judge it, clean and under re-crafted attacks."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.ablation.facts import pack
    from faultline.base.files import load_table, save_arrays, save_table, save_tensors
    from faultline.run.loading import chosen_settings, opened
    from faultline.studies.retraining.retrained import retrain
    from faultline.studies.sustainability.lists import load_errors, regularised_layers
    from faultline.training.tuning import applied

    files, params, output = snakemake.input, snakemake.params, snakemake.output
    dataset, network, state, _ = opened(snakemake)
    settings = applied(params.training, chosen_settings(files.chosen))
    result, history, correct, checkpoint = retrain(
        network,
        dataset,
        state,
        policy=snakemake.wildcards.policy,
        classes=load_table(*files.classes) if files.classes else None,
        choice=params.choice,
        settings=settings,
        epochs=params.epochs,
        attacks=params.attacks,
        regularised=regularised_layers(settings, *map(load_errors, files.errors)),
    )
    save_table(result, output.result)
    save_table(history, output.history)
    save_arrays(pack(correct), output.correct)
    save_tensors(checkpoint, output.network)
