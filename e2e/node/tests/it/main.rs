//! Real pods on the node double, under the API double.

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
