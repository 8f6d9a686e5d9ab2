"""The referee: which criterion finds the parts that matter?"""
