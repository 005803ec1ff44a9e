//! The server on a volume against real clients: the product's own and boto3.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod boto;
mod conformance;
mod durability;
mod full;
mod host;
