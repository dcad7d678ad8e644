//! What the guard must refuse and what it must let through.
//!
//! | module | holds |
//! |---|---|
//! | `hard` | cases written by hand: the vendors' own formats, and what only resembles a secret |
//! | `refused`, `containers`, `accepted` | generators of both sides, by class |
//! | `figures` | precision and recall of two such sets, one of them held back |
//! | `linear` | steps a byte on hostile text |

mod accepted;
mod chance;
mod containers;
mod figures;
mod hard;
mod linear;
mod refused;
