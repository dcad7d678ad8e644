//! From the queue to the people and back: the real sidecar and command line against a real database, a stand-in Slack
//! and a real mail server. One module a behaviour, in one binary: it links once. The harness is the crate's library.

mod channels;
mod cli_import;
mod cli_keys;
mod cli_secrets;
mod cli_settings;
mod console;
mod drain;
mod email;
mod health;
mod link_actions;
mod link_page;
mod link_refusals;
mod listen;
mod logs;
mod outbox;
mod recovery;
mod restart;
mod seed;
mod sharing;
mod slack;
mod slack_failures;
mod startup;
mod startup_waits;
mod tick;
