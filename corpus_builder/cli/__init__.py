"""Commands of the builder: `build` (plan, build, verify, show), `share` (pack, rebuild, diff, audit), `exchange`, `options`."""
