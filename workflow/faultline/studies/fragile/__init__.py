"""Do attacks aim at fragile filters, and what if these are amplified (Pravin et al. 2021)?"""

TABLES = {
    "targeting": "how much of each attack, and of noise, arrives at each filter; its fragility",
    "kernels": "weights of the filters that are drawn",
    "association": "how fragility and targeting go together, against chance and noise",
    "fragile_overlap": "overlap of the fragile sets of a layer over epochs and seeds",
    "gains": "fragility and feature energy of every filter, and its gain under each policy",
    "strengths": "accuracy on the validation split, every policy at every strength",
    "remedy": "remedy and its control less no change, and one less the other, with intervals",
}
