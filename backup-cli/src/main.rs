//! The program `backup`: words, output and exit codes around `backup-core`. It composes; it decides nothing.

mod advising;
mod allocator;
mod args;
mod commands;
mod config;
mod console;
mod daemon;
mod databases;
mod drills;
mod exit;
mod facts;
mod jobs;
mod limited;
mod located;
mod network;
mod runbooks;
mod secrets;
mod session;
mod telling;
mod thawing;
mod units;

fn main() -> std::process::ExitCode {
    allocator::set_bounds();
    commands::main().into()
}
