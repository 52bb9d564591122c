"""What an operator asks: probes, checks, rates and charts."""
