//! The program `squall`: reads the command line and hands over to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    squall_pipeline::cli::main()
}
