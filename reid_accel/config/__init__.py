"""Settings: frozen dataclasses, and the parser that fills them."""
