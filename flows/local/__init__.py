"""Start, watch and end the servers and the worker that Revet runs on this machine."""
