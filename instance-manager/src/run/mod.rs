//! `run`: process 1 of the container `postgres`.

pub mod archives;
pub mod authority;
pub mod certificates;
pub mod choose;
pub mod configure;
pub mod divergence;
pub mod following;
pub mod following_wal;
pub mod manager_client;
pub mod news;
pub mod passwords;
pub mod recovery_wal;
pub mod recovery_watch;
pub mod rejoin;
pub mod replace;
pub mod replication_role;
pub mod role;
pub mod runway;
pub mod served;
pub mod shared;
pub mod socket;
pub mod start;
pub mod supervisor;
pub mod take_over;
pub mod wal;
pub mod wal_receiver;
pub mod watch;

pub use start::run;
