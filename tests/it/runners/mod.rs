//! What triggers start: programs in their sandbox, and what becomes of their messages.

mod acceptance;
mod bench;
mod cli;
mod node;
mod programs;
mod receiver;
mod sandbox;
mod whole;
