"""The graph of a network on a data set, and the norms of its weights at last checkpoints."""

from faultline.run.job import job

with job(snakemake):
    import pandas as pd
    import torch

    from faultline.ablation.graph import graph, graph_table, weight_norms
    from faultline.base.files import save_table
    from faultline.base.paths import place_of
    from faultline.data.splits import images_of
    from faultline.networks.reach import IMAGES
    from faultline.run.loading import load_dataset, load_network

    torch.set_num_threads(snakemake.threads)
    cpu, name = torch.device("cpu"), snakemake.wildcards.network
    dataset, norms = load_dataset(snakemake.input.data, cpu), []
    for path in snakemake.input.checkpoints:
        network, _ = load_network(path, name, dataset, device=cpu)
        place = place_of(path)
        norms.append(pd.DataFrame([place]).merge(weight_norms(network), how="cross"))
    images, _ = images_of(dataset.fitted(network), "test", IMAGES)
    nodes, reason = graph(network, images)
    if reason:
        print(f"{name}: {reason}; its layers are drawn in the order in which they are called")
    table = graph_table(network, nodes, traced=not reason)
    of = {"dataset": snakemake.wildcards.dataset, "network": name}
    save_table(pd.DataFrame([of]).merge(table, how="cross"), snakemake.output.graph)
    save_table(pd.concat(norms, ignore_index=True), snakemake.output.norms)
