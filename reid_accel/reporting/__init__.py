"""What a run writes for people: tables, pages, cards, submission files."""
