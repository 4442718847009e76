"""What we test with, for those who build on us: strategies, fakes, compliance suites."""
