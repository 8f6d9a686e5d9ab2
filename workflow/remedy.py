"""One checkpoint with the gains of one policy, judged on test images, clean and attacked anew."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.ablation.facts import pack
    from faultline.base.files import load_table, save_arrays, save_table, save_tensors
    from faultline.run.loading import opened
    from faultline.studies.fragile.mending import mend

    dataset, network, state, _ = opened(snakemake)
    result, correct, mended = mend(
        network,
        dataset,
        load_table(snakemake.input.gains),
        policy=snakemake.wildcards.policy,
        attacks=snakemake.params.attacks,
        seed=state["seed"],
    )
    save_table(result, snakemake.output.result)
    save_arrays(pack(correct), snakemake.output.correct)
    facts = {"epoch": state["epoch"], "seed": state["seed"]}
    save_tensors({"network": mended.state_dict()} | facts, snakemake.output.network)
