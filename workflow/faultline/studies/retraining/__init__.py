"""Does it help to freeze what is fragile and to train the rest on (Pravin et al. 2024)?"""

TABLES = {
    "retraining": "accuracy after retraining, per policy and seed",
    "comparison": "retraining policies less regular, and selective less random, with intervals",
}
