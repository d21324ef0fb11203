"""What an operator sees: metrics, log lines and spans. Nothing here changes an answer."""
