"""Circuits at register-transfer level, in Amaranth: loaded only when a design is made.

Every multiplier here has the words `a`, `b` and `p` as attributes; blocks that belong together are
modules of their own, which synthesis keeps apart.
"""
