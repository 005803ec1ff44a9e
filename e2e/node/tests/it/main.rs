//! Real pods on the node double, under the API double.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

mod containers;
mod deployments;
mod isolation;
mod lab;
mod lifecycle;
mod logs;
mod postgres;
mod probes;
mod services;
mod storage;
mod trouble;
