"""The graph of a network on a data set, and the norms of its weights at last checkpoints."""

from faultline.run.job import job

with job(snakemake):
    import torch

    from faultline.base.files import save_table
    from faultline.base.paths import place_of
    from faultline.run.loading import load_dataset, load_network
    from faultline.studies.map.network import map_network

    torch.set_num_threads(snakemake.threads)
    cpu, name = torch.device("cpu"), snakemake.wildcards.network
    dataset = load_dataset(snakemake.input.data, cpu)
    networks = (
        (place_of(path), load_network(path, name, dataset, device=cpu)[0])
        for path in snakemake.input.checkpoints
    )
    graph, norms = map_network(networks, dataset)
    save_table(graph, snakemake.output.graph)
    save_table(norms, snakemake.output.norms)
