"""Attribute inversion of tabular models: a person's sensitive value, inferred from the rest and the model's answers.

What counts is what the model adds: every attack is compared with an imputation of the same value from public records.
"""
