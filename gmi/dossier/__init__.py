"""Dossiers: several runs of one system, joined into one page."""
