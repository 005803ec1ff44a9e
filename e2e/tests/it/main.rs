//! The end-to-end suite: one binary, one file a subject. `docs/development.md` tells how to run it on the three
//! grounds.

mod archive;
mod bad_input;
mod bucket;
mod cluster;
mod common;
mod config;
mod examples;
mod info;
mod kill;
mod kubectl;
mod outage;
mod recovery;
mod repositories;
mod schedule;
mod seed;
mod storages;
mod versions;
mod volume;
