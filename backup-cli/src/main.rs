//! The program `backup`: words, output and exit codes around `backup-core`. It composes; it decides nothing.

mod allocator;
mod args;
mod commands;
mod config;
mod console;
mod databases;
mod exit;
mod located;
mod network;
mod secrets;
mod session;
mod units;

fn main() -> std::process::ExitCode {
    allocator::set_bounds();
    commands::main().into()
}
