//! The `almoner` program: reads the command line and calls one command of `cli`.

fn main() -> std::process::ExitCode {
    almoner::cli::main()
}
