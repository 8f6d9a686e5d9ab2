"""Other weights of a network that hold under attack: candidates, the choice, the judgement."""
