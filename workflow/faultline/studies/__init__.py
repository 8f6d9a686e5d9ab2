"""One folder a question; `order.py` says in which order the report shows them."""
