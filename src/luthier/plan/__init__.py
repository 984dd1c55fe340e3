"""Stage 3: would this train what was meant, and what would it cost? Preflight, memory, time, money, budget."""
