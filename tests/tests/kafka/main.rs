//! The whole path on a real broker: one binary of tests, so that one Apache Kafka serves them all.

mod clients;
mod dead_letters;
mod documents;
mod event;
mod frozen;
mod gc;
mod hostile;
mod hot_swap;
mod models;
mod order;
mod security;
mod store;
mod topics;
mod trace;
mod windows;
