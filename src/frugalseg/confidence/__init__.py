"""How far a mask may be trusted: its confidence, calibrated to an expected Dice and a lower bound."""
