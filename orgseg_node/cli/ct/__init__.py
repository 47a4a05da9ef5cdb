"""Commands for one CT, and for models and protocols."""
