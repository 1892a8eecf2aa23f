//! What triggers start: programs in their sandbox, and what becomes of their messages.

mod bench;
mod programs;
mod sandbox;
