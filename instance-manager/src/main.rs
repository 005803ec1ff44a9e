//! The program `instance-manager`.
//!
//! PostgreSQL starts it once per WAL file, so the two WAL commands are recognised before anything is set up:
//! no argument parser, no runtime, no TLS, no logging.

use std::process::ExitCode;

use howdah_instance_manager::{cli, wal_client};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(command) if command == "wal-archive" => wal_client::archive(args),
        Some(command) if command == "wal-restore" => wal_client::restore(args),
        _ => cli::main(),
    }
}
