"""ModelFeatures and the page: `markdown`, `html`, `robustness_table`, `bootstrap`, `layer_tables`, `table`, `plots`, `heatmaps`."""
