"""The method's losses: `losses` (distances between layers), `adversary` (domain adversarial training), `critic`, `domains`, `optimiser`."""
