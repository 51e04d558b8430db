"""The regrow command: compress, inspect, evaluate, push and watch packs."""
