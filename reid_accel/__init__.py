"""Person re-identification with pedestrian attributes, from one laptop to many nodes."""
