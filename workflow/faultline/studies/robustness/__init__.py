"""Which training is the most robust, and does regularising layers help (Khalooei et al. 2022)?"""

TABLES = {
    "robustness": "accuracy of every training over eps, and its R&G score, mean over seeds",
    "robustness_differences": "each regularised training less its base, paired by seed",
    "tuning": "every candidate of the searches for settings",
}
