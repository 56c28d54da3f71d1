"""Files for the tools that run exported models: one module per tool."""
