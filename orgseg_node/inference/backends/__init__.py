"""Networks as torch, OpenVINO and nnU-Net run them."""
