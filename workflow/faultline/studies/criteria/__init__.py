"""The referee: which criterion finds the parts that matter?"""

TABLES = {
    "criteria": "how much every criterion says that each layer and filter matters",
    "removals": "accuracy lost on test images when a layer or filter is removed whole",
    "predictions": "how well every criterion predicts the accuracy lost",
    "criteria_agreement": "how alike two criteria rank layers and filters",
}
