//! The patch formats: JSON patch, merge patch and strategic merge patch. Server-side apply is in `managed`.

pub mod json;
pub mod merge;
pub mod strategic;
