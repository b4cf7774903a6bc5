//! The program `squall` as a library: configuration, graph, run time, commands.
//!
//! The crates below hold mechanisms; what is decided for a user (defaults, topics, exit codes) is here.

pub mod archive;
pub mod broker;
pub mod cli;
pub mod commands;
pub mod config;
pub mod connect;
pub mod dashboard;
pub mod demo;
pub mod devices;
pub mod exit;
pub mod font;
pub mod graph;
pub mod http;
pub mod logging;
pub mod maps;
pub mod memory;
pub mod once;
pub mod publish;
pub mod runtime;
pub mod signals;
pub mod topics;
pub mod training;
pub mod watch;
