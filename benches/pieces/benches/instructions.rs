//! Instructions of two pieces of the hot path, counted by callgrind: the same on a noisy machine.
//!
//! ```sh
//! apt-get install valgrind
//! cargo install gungraun-runner --version 0.20.0
//! cargo bench -p ssegate-pieces --bench instructions
//! ```

/// The benches, in a module of their own: the macro makes a `main` that `cargo test` must not run.
#[expect(clippy::exit, unused_qualifications, reason = "what the macros make of it")]
mod counted {
    use std::hint::black_box;

    use bytes::BytesMut;
    use gungraun::prelude::*;

    use ssegate_pieces::{self as pieces, FanOut};

    #[library_benchmark]
    #[bench::one_hundred(args = (100), setup = pieces::pushes)]
    fn decode_pushes(input: BytesMut) -> usize {
        black_box(pieces::decode_pushes(black_box(input)))
    }

    #[library_benchmark]
    #[bench::one(args = (1), setup = FanOut::new)]
    #[bench::one_without_history(args = (1), setup = FanOut::without_history)]
    #[bench::one_in_a_fleet(args = (1), setup = FanOut::in_a_fleet)]
    #[bench::one_hundred(args = (100), setup = FanOut::new)]
    #[bench::one_hundred_in_a_fleet(args = (100), setup = FanOut::in_a_fleet)]
    #[bench::one_hundred_without_history(args = (100), setup = FanOut::without_history)]
    fn fan_out(hub: FanOut) -> (usize, FanOut) {
        // The setup is returned, so that dropping it is not counted.
        (black_box(hub.publish(1)), hub)
    }

    fn in_a_long_history(events: usize) -> (FanOut, Vec<u8>) {
        let hub = FanOut::with_history(events);
        let last = hub.last_but_one();
        (hub, last)
    }

    #[library_benchmark]
    #[bench::one_hundred(args = (100), setup = in_a_long_history)]
    #[bench::one_hundred_thousand(args = (100_000), setup = in_a_long_history)]
    fn come_back((hub, last): (FanOut, Vec<u8>)) -> (usize, FanOut) {
        (black_box(hub.come_back(&last)), hub)
    }

    library_benchmark_group!(name = hot_path, benchmarks = [decode_pushes, fan_out, come_back]);
    main!(library_benchmark_groups = hot_path);

    pub(super) fn run() {
        main();
    }
}

fn main() {
    // `cargo test --benches` starts benches too, without wanting a measurement.
    if std::env::args().any(|argument| argument == "--bench" || argument == "--gungraun-run") {
        counted::run();
    }
}
