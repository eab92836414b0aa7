"""`bench train`: how long retraining takes, and where the time goes."""
