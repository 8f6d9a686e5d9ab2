"""Which test images one checkpoint classifies correctly under each stress."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.ablation.facts import pack
    from faultline.base.files import save_arrays
    from faultline.run.loading import load_stresses, opened
    from faultline.studies.stresses.judged import judge_stresses

    dataset, network, _, device = opened(snakemake)
    (stored,) = load_stresses(snakemake.input.stressed, snakemake.params.names, device)
    save_arrays(pack(judge_stresses(network, dataset, stored)), snakemake.output.correct)
