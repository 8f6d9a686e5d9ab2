"""The mends of one checkpoint judged beside the network that was given, and the one that validation
images chose handed back, where test images bear it out."""

from faultline.run.job import job

with job(snakemake):
    import json
    from pathlib import Path

    from faultline.ablation.facts import pack
    from faultline.base.files import (
        load_state_dict,
        load_table,
        load_tensors,
        save_arrays,
        save_table,
        save_tensors,
        save_text,
    )
    from faultline.base.paths import MAYBE_BESIDE
    from faultline.networks.weights import dtype_of
    from faultline.run.loading import load_stresses, opened
    from faultline.studies.mending.faults import Faults
    from faultline.studies.mending.judging import judge_mends

    files, params, output = snakemake.input, snakemake.params, snakemake.output
    mended, bounds = map(Path(output.note).with_name, MAYBE_BESIDE["mended.md"])
    for path in (mended, bounds):
        path.unlink(missing_ok=True)
    dataset, network, state, device = opened(snakemake)
    keys = ("network",)
    states = [load_tensors(p, "a mend", keys=keys, device=device) for p in files.networks]
    outcome = judge_mends(
        network,
        dataset,
        states={name: of["network"] for name, of in zip(params.names, states, strict=True)},
        paths=dict(zip(params.names, map(load_table, files.paths), strict=True)),
        abouts=params.abouts,
        attacks=params.attacks,
        stressed=next(iter(load_stresses(files.stressed, params.stresses, device)), None),
        faults=Faults(**params.faults) if params.faults else None,
        under=params.under,
        clean_loss=params.clean_loss,
        confidence=params.confidence,
        name=snakemake.wildcards.network,
        dtype=dtype_of([load_state_dict(path, params.weights_key) for path in files.weights]),
        seed=state["seed"],
    )
    save_arrays(pack(outcome.correct), output.correct)
    save_table(outcome.result, output.result)
    save_table(outcome.bought, output.bought)
    if outcome.weights is not None:
        save_tensors(outcome.weights, mended)
    if outcome.bounds:
        save_text(json.dumps({**outcome.bounds}), bounds)
    save_text(outcome.note, output.note)
