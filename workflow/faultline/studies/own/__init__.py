"""What do ablations of the user's own change?"""

TABLES = {"ablations": "accuracy under ablations of one's own less that of the whole network"}
