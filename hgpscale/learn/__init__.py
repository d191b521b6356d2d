"""Models of growth patterns: from a cube to validated predictions."""
