"""Tables and the HTML page: `make_report` (both), `markdown`, `html`, `robustness_table`, `bootstrap`, `layer_tables`, `table`, `plots`, `heatmaps`."""
