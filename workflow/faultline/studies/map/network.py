"""The graph of a network and the norms of its weights, which fault maps are drawn of."""

from collections.abc import Iterable, Mapping

import pandas as pd
from torch import nn

from faultline.ablation.graph import graph, graph_table, weight_norms
from faultline.base.columns import put_first
from faultline.data.splits import DataSet, images_of
from faultline.networks.reach import IMAGES


def map_network(
    networks: Iterable[tuple[Mapping[str, str | int], nn.Module]], dataset: DataSet
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(graph of the last one on test images, norms of the weights of all) of checkpoints of one
    network, each with the columns that name it; they are taken one by one."""
    norms = []
    for place, network in networks:
        norms.append(put_first(weight_norms(network), place))
    images, _ = images_of(dataset.fitted(network), "test", IMAGES)
    nodes, reason = graph(network, images)
    if reason:
        name = place["network"]
        print(f"{name}: {reason}; its layers are drawn in the order in which they are called")
    table = graph_table(network, nodes, traced=not reason)
    of_network = {key: place[key] for key in ("dataset", "network")}
    return put_first(table, of_network), pd.concat(norms, ignore_index=True)
