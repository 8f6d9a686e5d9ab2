"""Where in the network does it break, and do the methods agree on where?"""

TABLES = {
    "graph": "the layers of each network, where its branches meet, and where inputs come from",
    "layer_measures": "what every method says of each layer, beside its depth, size and norm",
    "layer_correlations": "rank correlations of these over the layers of a network",
}
