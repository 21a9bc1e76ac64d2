"""What measures, inside the machine; only the standard library, and whatever Python the machine has."""
