"""Training records out of generative models: samples that are copies, beside a model that never saw the records."""
