"""Evidence: what in a run folder shows people, how it is sealed, how it is deleted, and how a report is signed."""
