"""What organs look like in a patient: measures, the reference of a bundle, and the judgement of a result."""
