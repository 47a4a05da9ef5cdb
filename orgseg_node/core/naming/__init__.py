"""Which organ a name means: one dictionary for models, structure sets, protocols and training."""
