"""Train one checkpoint on where a criterion picks, all else frozen, and judge it, clean and under
re-crafted attacks."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.ablation.facts import pack
    from faultline.base.files import load_table, save_arrays, save_table
    from faultline.run.loading import chosen_settings, opened
    from faultline.studies.criteria.picked import train_picked
    from faultline.training.tuning import applied

    files, params, wildcards = snakemake.input, snakemake.params, snakemake.wildcards
    dataset, network, state, _ = opened(snakemake)
    result, correct = train_picked(
        network,
        dataset,
        state,
        pick=wildcards.criterion,
        **params.ranked,
        scores=load_table(*files.criteria) if files.criteria else None,
        scored=params.layers,
        share=params.share,
        training=applied(params.training, chosen_settings(files.chosen)),
        recipe=wildcards.recipe,
        epochs=params.epochs,
        interpolations=params.interpolations,
        attack=params.attack,
        images=params.images,
        attacks=params.attacks,
    )
    save_table(result, snakemake.output.result)
    save_arrays(pack(correct), snakemake.output.correct)
