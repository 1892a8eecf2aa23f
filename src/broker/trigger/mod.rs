//! Triggers: what is started when messages wait in a queue.

pub mod run;
