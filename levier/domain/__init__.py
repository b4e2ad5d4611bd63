"""The pure model: words, plans, protocols and errors. Imports the standard library and pydantic only."""
