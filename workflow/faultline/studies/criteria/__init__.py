"""The referee: which criterion finds the parts that matter?"""

TABLES = {
    "criteria": "how much every criterion says that each layer and filter matters",
    "removals": "accuracy lost on test images when a layer or filter is removed whole",
    "predictions": "how well every criterion predicts the accuracy lost",
    "criteria_agreement": "how alike two criteria rank layers and filters",
    "criteria_use": "accuracy after training what each criterion picks",
    "criteria_gains": "the same less as many parameters of random layers, with intervals",
    "referee": "what each criterion predicts, what training its picks gains, and what it costs",
}
