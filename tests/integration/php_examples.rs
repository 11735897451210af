//! The PHP publishers of `examples/php`: each runs as it is, and what it publishes arrives.
