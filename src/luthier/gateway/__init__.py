"""The running server: OpenAI's API over one base and its adapters, keys, limits, and what is known of its traffic."""
