//! Each round times each reader once, natively, and medians are told. `make bench-scanner` runs it.

use std::hint::black_box;
use std::time::Instant;

use scanner_speed::bodies::{NAMES, body};
use scanner_speed::readers::READERS;

const ROUNDS: usize = 15;
const REPEATS: u32 = 20;

fn main() {
    println!("| natively, MB/s | the scanner | serde_json | memchr | the scanner, of serde_json |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (number, name) in NAMES.iter().enumerate() {
        let [scanner, serde_json, memchr] = speeds(&body(number).unwrap_or_default());
        let times = scanner / serde_json;
        println!("| {name} | {scanner:.0} | {serde_json:.0} | {memchr:.0} | {times:.1} times |");
    }
}

/// The median speed of each reader, in megabytes a second.
fn speeds(body: &[u8]) -> [f64; 3] {
    let mut seconds = READERS.map(|_| Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        for (read, seconds) in READERS.iter().zip(&mut seconds) {
            let start = Instant::now();
            for _ in 0..REPEATS {
                assert!(!read(black_box(body)), "not an initialize");
            }
            seconds.push(start.elapsed().as_secs_f64() / f64::from(REPEATS));
        }
    }
    #[allow(clippy::cast_precision_loss)]
    let megabytes = body.len() as f64 / 1e6;
    seconds.map(|seconds| megabytes / median(seconds))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.swap_remove(values.len() / 2)
}
