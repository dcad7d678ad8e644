//! `rotator keys …`: one file a command. Keys themselves are made, wrapped and used inside the database; only a master
//! key is made here, since it must not pass through SQL.

mod new_master;
mod rotate;
mod status;

pub use new_master::run as new_master;
pub use rotate::run as rotate;
pub use status::run as status;
