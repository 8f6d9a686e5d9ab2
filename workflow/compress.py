"""One checkpoint with fewer bits or weights: each layer alone, then together."""

from functools import partial

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.ablation.compression import forms
    from faultline.base.columns import place, put_first
    from faultline.base.files import save_table, save_text
    from faultline.networks.layers import every_layer
    from faultline.run.job import free_memory
    from faultline.run.loading import opened
    from faultline.studies.compression.compressed import compress, evaluator
    from faultline.studies.compression.written import precision

    params, output = snakemake.params, snakemake.output
    dataset, network, _, device = opened(snakemake)
    every = every_layer(network)
    evaluate, observed = evaluator(
        network,
        dataset,
        {name: every[name] for name in params.layers},
        by_channel=params.scales == "channel",
        inputs=params.inputs,
        memory=partial(free_memory, snakemake, device),
    )
    result = compress(
        evaluate,
        params.layers,
        forms=forms(params.bits, params.prune, inputs=params.inputs),
        loss=params.loss,
        confidence=params.confidence,
        observed=observed,
    )
    where = place(snakemake.wildcards)
    save_table(put_first(result.alone, where), output.alone)
    save_table(put_first(result.together, where), output.together)
    told = {"scales": params.scales, "loss": params.loss, "confidence": params.confidence}
    save_text(precision(result.written, result.together, **told), output.precision)
