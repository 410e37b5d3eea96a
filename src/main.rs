//! The `almoner` program: reads the command line and calls one command of `cli`.

/// Mapping and gathering allocate from all threads at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    almoner::cli::main()
}
