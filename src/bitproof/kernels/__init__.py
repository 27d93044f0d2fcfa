"""Exact sums of products, fast: 8-bit convolutions, forms of product tables, compiled look-ups.

This subpackage works on raw tensors; it knows neither networks nor multipliers.
"""
