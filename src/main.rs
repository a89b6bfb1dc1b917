//! Parse the arguments, do it, end with its exit code.

fn main() -> std::process::ExitCode {
    muster::cli::main()
}
