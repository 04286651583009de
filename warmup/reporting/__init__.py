"""Comparing finished runs: tables and figures."""
