//! Where triggers come from.
