"""The shapes of requests and answers, one model each; the operator's are apart."""
