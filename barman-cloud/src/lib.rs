//! The Barman Cloud repository format: full backups and WAL in an object store, readable by Barman and by us.
//!
//! No Kubernetes and no SQL. [`layout`] knows where things are, [`store`] talks to the bucket, [`tar`] and
//! [`codec`] make and read the archives, [`backup_info`] is the commit record of a backup, [`catalog`] finds
//! backups and WAL and what can be recovered with them, [`retention`] decides what may go, [`archive`] puts WAL into the
//! repository and gets it back. Decisions are pure functions; only
//! `store`, `catalog`, `archive` and `lineage` touch the network. Codecs and tar are synchronous with small fixed
//! buffers: run them on blocking threads.

#![warn(missing_docs)]

pub mod archive;
pub mod arrears;
pub mod backup_id;
pub mod backup_info;
pub mod buffered;
pub mod catalog;
pub mod chain;
pub mod codec;
pub mod dropped;
pub mod error;
pub mod exclude;
pub mod in_use;
pub mod layout;
pub mod lineage;
pub mod lsn;
pub mod manifest;
pub mod report;
pub mod repository;
pub mod retention;
pub mod store;
pub mod tar;
pub mod timeline;
pub mod wal_header;
pub mod wal_name;

pub use backup_id::BackupId;
pub use backup_info::BackupInfo;
pub use chain::{BackupType, Chain};
pub use codec::Compression;
pub use error::{Error, ErrorKind, Result};
pub use layout::{Archive, Destination, Layout, PartName, Storage};
pub use lsn::Lsn;
pub use repository::Repository;
pub use store::{S3Options, Store};
pub use timeline::TimelineHistory;
pub use wal_name::{Segment, SegmentRange, SegmentSize, WalName};
