"""URLs as objects: lexical features, and edits an attacker can make. Nothing here resolves or fetches a URL."""
