"""How far does random damage inside of a network go (Cheney et al. 2017)?"""

TABLES = {
    "perturbations": "relative performance over the strength of random internal perturbations",
    "perturbation_layers": "area under these curves, and where each layer has lost 30 %",
    "perturbation_headline": "relative performance with 70 % of the synapses of a layer removed",
    "perturbation_depth": "first against last layers, by rank",
}
