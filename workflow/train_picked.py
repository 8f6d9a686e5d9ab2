"""Train one checkpoint on where a criterion picks, all else frozen, and judge it, clean and under
re-crafted attacks."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.ablation.facts import pack
    from faultline.base.files import load_table, save_arrays, save_table
    from faultline.run.loading import chosen_settings, load_stresses, opened
    from faultline.studies.criteria.names import SHIFTED, shift_of
    from faultline.studies.criteria.picked import train_picked
    from faultline.studies.criteria.shifted import shifted
    from faultline.training.tuning import applied

    files, params, wildcards = snakemake.input, snakemake.params, snakemake.wildcards
    dataset, network, state, device = opened(snakemake)
    recipe, shift = shift_of(wildcards.recipe)
    if shift:
        splits = load_stresses(files.shifted, [shift], device)
        dataset = shifted(dataset, [split[shift] for split in splits])
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
        recipe=recipe,
        images_are="clean" if shift is None else SHIFTED,
        epochs=params.epochs,
        interpolations=params.interpolations,
        attack=params.attack,
        images=params.images,
        attacks=params.attacks,
    )
    save_table(result, snakemake.output.result)
    save_arrays(pack(correct), snakemake.output.correct)
