"""The command line `revet`."""
