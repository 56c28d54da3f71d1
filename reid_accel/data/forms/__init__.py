"""The forms in which data sets come: folders, tables, sets of a hub, MOT sequences, published layouts."""
