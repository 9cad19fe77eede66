//! The program `backup`: words, output and exit codes around `backup-core`. It composes; it decides nothing.

mod args;
mod commands;
mod console;
mod databases;
mod exit;
mod secrets;
mod session;

fn main() -> std::process::ExitCode {
    commands::main().into()
}
