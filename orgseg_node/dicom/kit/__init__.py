"""The commissioning kit: a phantom CT and structure sets with known volumes, to test a planning system."""
