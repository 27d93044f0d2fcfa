"""Ground floor: specs, registries, errors, constrained numbers, bits, generators, files."""
