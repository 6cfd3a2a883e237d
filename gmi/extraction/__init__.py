"""Extraction of training records from generative models: samples that copy records, compared with a control's."""
