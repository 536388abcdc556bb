"""What the tasks of the flows call: each step takes addresses and digests, and returns addresses and digests."""
