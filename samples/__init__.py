"""Production samples: sources, pull, window store, labels, contract, quarantine, replay, simulator, catalogue."""
