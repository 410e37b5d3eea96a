//! Ingest from a folder of the server's own machine: what `almoner ingest` asks of the server that owns the data folder.

pub mod run;
