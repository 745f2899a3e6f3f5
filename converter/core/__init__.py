"""What every step of the line shares: frozen data, errors, text, JSON, distances. Standard library and numpy only."""
