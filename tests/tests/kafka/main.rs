//! The whole path on a real broker: one binary of tests, so that one Apache Kafka serves them all.

mod backtest;
mod budget;
mod clients;
mod dead_letters;
mod deadlines;
mod documents;
mod event;
mod frozen;
mod gc;
mod hostile;
mod hot_swap;
mod ledgers;
mod models;
mod mutated;
mod order;
mod positions;
mod processes;
mod scores;
mod security;
mod stations;
mod steering;
mod store;
mod time;
mod topics;
mod trace;
mod windows;
