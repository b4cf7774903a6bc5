//! The program `squall`: reads the command line and hands over to the library.

use std::ffi::{c_char, c_int};
use std::process::ExitCode;

/// See [`squall_pipeline::memory`].
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// See [`squall_pipeline::threads`].
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".preinit_array")]
static BEFORE_LIBRARIES: unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char) =
    squall_pipeline::threads::before_libraries;

fn main() -> ExitCode {
    squall_pipeline::cli::main()
}
