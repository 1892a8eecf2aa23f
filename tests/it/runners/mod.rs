//! What triggers start: programs in their sandbox, and what becomes of their messages.

mod bench;
mod node;
mod programs;
mod receiver;
mod sandbox;
mod whole;
