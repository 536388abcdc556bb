"""Prefect flows, the composition root, the command line and the local servers. Order and wiring, no logic."""
