"""What `benches/scale` is made of. The pure parts (no I/O): model, storm, figures, fit, wire."""
