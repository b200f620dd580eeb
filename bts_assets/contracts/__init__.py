"""What crosses the walls between rooms: the grid, the catalogue, the schemas of frames. No logic of any stage."""
