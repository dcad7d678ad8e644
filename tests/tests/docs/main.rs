//! The documents are true: README's blocks run as written, links lead somewhere, and whatever a page names (functions,
//! views, settings, files, tests) exists. One module each; `markdown` reads the pages.
//!
//! A block is run when the line above its fence is a marker that no reader sees:
//! `<!-- run as ROLE -->` runs `sql` with psql, `sh` with the built `rotator` in the PATH, `http` as PostgREST would;
//! `<!-- refused as ROLE -->` expects it to fail; `<!-- prints -->` is what the block before it printed, line by line;
//! `<!-- delivered -->` is what the sidecar's console channel wrote.

mod audit;
mod backup;
mod encrypted_columns;
mod examples;
mod follow;
mod image;
mod invariants;
mod keys;
mod markdown;
mod postgrest;
mod references;
mod supabase;
mod supabase_js;
