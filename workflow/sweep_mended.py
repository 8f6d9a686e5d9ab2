"""The layers of one checkpoint swept again with the weights that mended it, if any did."""

from faultline.run.job import job

with job(snakemake, kept=True):
    import pandas as pd

    from faultline.base.columns import place
    from faultline.base.files import load_table, load_tensors, save_table
    from faultline.run.loading import opened_base
    from faultline.studies.mending.swept import swept

    files, params = snakemake.input, snakemake.params
    result = load_table(files.result)
    kept = [*result.loc[result["handed_back"].astype(bool), "candidate"]]
    table = pd.DataFrame(columns=["layer"])
    if kept:
        base = opened_base(snakemake)
        path = dict(zip(params.names, files.networks, strict=True))[kept[0]]
        state = load_tensors(path, "a mend", keys=("network",), device=base.labels.device)
        settings = params.settings | {"place": place(snakemake.wildcards)}
        table = swept(base, state["network"], **settings)
    save_table(table, snakemake.output.layers)
