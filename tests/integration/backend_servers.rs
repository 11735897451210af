//! nginx and Node as backends.
