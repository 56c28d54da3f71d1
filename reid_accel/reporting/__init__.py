"""What a run writes for people: console output, log, HTML page and model card."""
