"""A gate for continuous integration: a policy of statements on an audit's figures, and what they come to."""
