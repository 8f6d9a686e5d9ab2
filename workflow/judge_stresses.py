"""Which test images one checkpoint classifies correctly under each stress."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.ablation.facts import pack
    from faultline.base.files import load_tensors, save_arrays
    from faultline.run.loading import opened
    from faultline.studies.stresses.judged import judge_stresses

    files, names = snakemake.input.stressed, snakemake.params.names
    dataset, network, _, device = opened(snakemake)
    stored = {
        name: load_tensors(path, "a stress", keys=(), device=device)
        for name, path in zip(names, files, strict=True)
    }
    save_arrays(pack(judge_stresses(network, dataset, stored)), snakemake.output.correct)
