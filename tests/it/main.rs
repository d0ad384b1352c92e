//! Integration tests: the `lhrun` binary over the embedded cluster.

#![allow(clippy::unwrap_used)]

mod apps;
mod architecture;
mod backups;
mod bucket;
mod cli;
mod client;
mod damage;
mod deleted;
mod docs;
mod drill;
mod files;
mod folders;
mod gate;
mod interrupt;
mod kubectl;
mod lab;
mod locks;
mod mission;
mod offsite;
mod real;
mod repl;
mod restore;
mod restore_image;
mod runbooks;
mod s3client;
mod scenarios;
mod site;
mod traps;
mod verify;
mod volumes;
mod written_by_longhorn;
