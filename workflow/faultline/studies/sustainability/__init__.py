"""Which layers do perturbed images move most (Khalooei et al. 2022)?"""

TABLES = {
    "sustainability": "relative error of every layer under every perturber",
    "sustainability_lists": "the most vulnerable layers of every checkpoint, over eta",
    "sustainability_agreement": "how far these lists agree over seeds, epochs and perturbers",
}
