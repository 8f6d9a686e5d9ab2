"""How accurate is each network, clean and under attack, and can the attacks be believed?"""

TABLES = {
    "accuracy": "accuracy of every checkpoint under every attack, and in the worst case, over eps",
    "checks": "self-checks of the attacks",
    "history": "loss and accuracy of every training epoch",
}
