//! `make latency`: from the append of the last needed frame to the committed forecast, FRAMES frames (120) of SIZE x SIZE
//! cells (256), CADENCE seconds (2) apart, MEMBERS (20) and LEADS (18) of persistence, beside a companion if COMPANION names one
//! (steps), which is scored. The last line is the report as JSON.

use squall_tests::latency::{Options, measure};
use squall_tests::program::number;

fn main() {
    let options = Options {
        frames: number("FRAMES", 120),
        cadence: number("CADENCE", 2),
        size: number("SIZE", 256),
        members: number("MEMBERS", 20),
        leads: number("LEADS", 18),
        companion: std::env::var("COMPANION").ok().filter(|name| !name.is_empty()),
    };
    println!("{}", measure(&options));
}
