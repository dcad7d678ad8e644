//! Every behaviour of rotator, one module each, in one binary: it links once. The harness is the crate's library.

mod alert;
mod bad_input;
mod calendar;
mod contact;
mod contract;
mod doctor;
mod harness;
mod import;
mod install;
mod link;
mod outbox;
mod outcome;
mod overview;
mod policy;
mod registry;
mod rotation;
mod schedule;
mod search;
mod secrets_view;
mod seed;
mod tick;
mod tick_races;
mod tidy;
mod volume;
