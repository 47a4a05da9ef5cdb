"""What the files of a trained nnU-Net v2 model say: values of plans, the record of the training, archives."""
