//! Which file goes into which part, and how large things become: pure decisions.
//!
//! Files are not assigned beforehand. Every worker takes the next file of a group when it has done one, so that
//! all end at about the same time whatever the files cost; large files come first, because one of them at the end
//! would keep a single worker busy alone.

use super::request::PartSize;
use super::walk::Tree;
use crate::error::Result;
use barman_cloud::store::{MAX_PARTS, MIN_PART, part_size};

/// Least bytes worth another worker in the same group.
const WORTH_A_WORKER: u64 = 32 << 20;
/// Bounds of a planned part, before compression.
const SMALLEST_PART: u64 = 256 << 20;
const LARGEST_PART: u64 = 16 << 30;
/// Parts planned for each job, so that a restore with more jobs finds work too.
const PARTS_PER_JOB: u64 = 4;
/// PostgreSQL's files end at 1 GiB; a part may exceed its size by one.
const LARGEST_FILE: u64 = 1 << 30;

/// Sizes for one backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of tar after which a part is closed.
    pub tar_bytes: u64,
    /// Bytes of one upload request, and of one buffer.
    pub buffer_bytes: u64,
    /// Buffers in all.
    pub buffers: usize,
}

/// Plans the sizes from what the user asked for and what will be stored.
///
/// Memory is buffers, so a buffer is as small as a request may be ([`MIN_PART`]) wherever the number of requests of one
/// upload allows it; a store that takes few of them gets smaller tars before it gets larger buffers.
pub fn sizes(asked: &PartSize, total: u64, jobs: usize) -> Result<Sizes> {
    let largest = largest_part(asked.max_upload_parts);
    let planned = (total / (jobs as u64 * PARTS_PER_JOB)).clamp(SMALLEST_PART, largest);
    let tar_bytes = asked.tar_bytes.unwrap_or(planned).max(1);
    // Incompressible data and the codec's own framing: `part_size` adds a quarter.
    let needed = part_size(tar_bytes.saturating_add(LARGEST_FILE), asked.max_upload_parts.map(u64::from))?;
    let buffer_bytes = asked.upload_bytes.unwrap_or(MIN_PART).max(needed).max(MIN_PART);
    // One being filled and one being sent for each worker.
    Ok(Sizes { tar_bytes, buffer_bytes, buffers: jobs * 2 })
}

/// Largest part that is planned: a store that takes few requests gets smaller parts rather than larger buffers.
fn largest_part(max_upload_parts: Option<u32>) -> u64 {
    let requests = max_upload_parts.map_or(MAX_PARTS, u64::from).min(MAX_PARTS);
    // The quarter that `part_size` adds.
    (requests * MIN_PART / 5 * 4).saturating_sub(LARGEST_FILE).clamp(SMALLEST_PART, LARGEST_PART)
}

/// Workers that a group of this size should have at most.
pub fn workers(bytes: u64, jobs: usize) -> usize {
    usize::try_from(bytes.div_ceil(WORTH_A_WORKER)).unwrap_or(usize::MAX).clamp(1, jobs.max(1))
}

/// The order in which the files of a tree are taken: large ones first, largest of all at the head, then the rest in
/// the order of the walk. One worker takes them all in the order of the walk.
pub fn order(tree: &Tree, workers: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..tree.files.len() as u32).collect();
    if workers > 1 {
        let large = (tree.bytes / (workers as u64 * 16)).max(1 << 20);
        let size = |index: &u32| tree.files[*index as usize].size;
        let (mut first, rest): (Vec<u32>, Vec<u32>) =
            order.into_iter().partition(|index| size(index) >= large);
        first.sort_by_key(|index| std::cmp::Reverse(size(index)));
        first.extend(rest);
        order = first;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::super::walk::FileItem;
    use super::*;
    use std::ffi::OsString;

    fn tree(sizes: &[u64]) -> Tree {
        let files = sizes
            .iter()
            .map(|size| FileItem { dir: 0, name: OsString::from("x").into_boxed_os_str(), size: *size })
            .collect();
        Tree { files, bytes: sizes.iter().sum(), ..Tree::default() }
    }

    /// S1.1: up to 50 TiB.
    #[test]
    fn sizes_follow_the_database_and_stay_within_bounds() {
        let asked = PartSize::default();
        let small = sizes(&asked, 40 << 20, 2).expect("plans");
        assert_eq!((small.tar_bytes, small.buffer_bytes, small.buffers), (256 << 20, 5 << 20, 4));
        let huge = sizes(&asked, 50 << 40, 8).expect("plans");
        assert_eq!((huge.tar_bytes, huge.buffer_bytes, huge.buffers), (16 << 30, 5 << 20, 16));
        assert!(huge.buffer_bytes * 10_000 >= huge.tar_bytes + LARGEST_FILE);
        let large_tars =
            PartSize { max_upload_parts: Some(100), tar_bytes: Some(1 << 30), ..PartSize::default() };
        assert_eq!(sizes(&large_tars, 1 << 40, 2).expect("plans").buffer_bytes, 26 << 20);
    }

    /// S1.1: up to 50 TiB.
    #[test]
    fn memory_does_not_grow_with_the_database() {
        for total in [1_u64 << 20, 1 << 30, 1 << 40, 50 << 40] {
            for jobs in [1, 2, 3, 4, 8] {
                let sizes = sizes(&PartSize::default(), total, jobs).expect("plans");
                assert_eq!(sizes.buffer_bytes * sizes.buffers as u64, jobs as u64 * 2 * (5 << 20));
            }
        }
    }

    #[test]
    fn a_store_of_few_requests_gets_smaller_parts() {
        for (requests, tar, buffer) in [(1000, 2976, 5), (200, 256, 8), (100, 256, 16), (1, 256, 1600)] {
            let asked = PartSize { max_upload_parts: Some(requests), ..PartSize::default() };
            let sizes = sizes(&asked, 50 << 40, 2).expect("plans");
            assert_eq!((sizes.tar_bytes >> 20, sizes.buffer_bytes >> 20), (tar, buffer), "{requests}");
        }
    }

    /// S1.28: several where they pay.
    #[test]
    fn small_groups_get_one_worker() {
        assert_eq!(
            (workers(0, 4), workers(32 << 20, 4), workers(65 << 20, 4), workers(1 << 40, 4)),
            (1, 1, 3, 4)
        );
    }

    #[test]
    fn large_files_first_only_when_there_are_several_workers() {
        let tree = tree(&[5, 300 << 20, 7, 900 << 20, 1 << 10]);
        assert_eq!(order(&tree, 1), [0, 1, 2, 3, 4]);
        assert_eq!(order(&tree, 2), [3, 1, 0, 2, 4]);
    }
}
