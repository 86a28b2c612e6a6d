//! Benchmarks: one file per engine beside this folder. Run one with `cargo bench -p tidemark-benches --bench kernel`.
