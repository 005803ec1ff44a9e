//! PostgreSQL from outside: its programs, its processes, its SQL.

pub mod adopted;
pub mod children;
pub mod files;
pub mod probe;
pub mod programs;
pub mod promote;
pub mod relayed;
pub mod server;
pub mod sql;
pub mod stale;
pub mod switch;
