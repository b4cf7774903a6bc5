//! The program `squall`: reads the command line and hands over to the library.

use std::process::ExitCode;

/// See [`squall_pipeline::memory`].
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    squall_pipeline::cli::main()
}
