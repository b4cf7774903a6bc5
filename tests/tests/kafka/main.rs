//! The whole path on a real broker: one binary of tests, so that one Apache Kafka serves them all.

mod budget;
mod clients;
mod dead_letters;
mod documents;
mod event;
mod frozen;
mod hot_swap;
mod models;
mod order;
mod positions;
mod time;
mod windows;
