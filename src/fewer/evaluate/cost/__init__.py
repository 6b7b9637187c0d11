"""What a plan costs: multiply-adds, memory and milliseconds."""
