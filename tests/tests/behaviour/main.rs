//! Every behaviour of rotator, one module each, in one binary: it links once. The harness is the crate's library.

mod harness;
mod install;
