//! The engine against a real PostgreSQL 15 and a real S3 server.

mod archiving;
mod backup_restore;
mod postgres;
mod site;
