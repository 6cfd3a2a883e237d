"""Attribute inversion of tabular models: from what is known of a person and the model's answers, the value that is not.

What counts is what the model adds: every attack stands beside an imputation of the same value from public records.
"""
