"""To and from other corpora and tools: `index_webdataset`, `scan_webdataset`, `subset`, `unpack`, `lhotse_export`."""
