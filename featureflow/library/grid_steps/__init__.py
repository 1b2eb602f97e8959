"""Steps of grids, one file a family; `registry` knows them by the names that specs use."""
