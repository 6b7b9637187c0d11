"""`python -m benchmarks.leaderboard`."""

from benchmarks.leaderboard.command import main

main()
