//! `uuid_v7()` on the database's clock, and `mint_token()`.

use std::cell::RefCell;

use pgrx::pg_sys;

use super::{Sequence, token};
use crate::boundary::{POSTGRES_EPOCH, native_function, text, uuid};
use crate::keyring;

thread_local! {
    static SEQUENCE: RefCell<Sequence> = const { RefCell::new(Sequence::new()) };
}

native_function!(uuid_v7, |_call| {
    // SAFETY: reads the clock; callable at any time.
    let now = unsafe { pg_sys::GetCurrentTimestamp() };
    let random = keyring::native::draw_random()?;
    let id = SEQUENCE
        .with_borrow_mut(|sequence| sequence.next(now.saturating_add(POSTGRES_EPOCH), random));
    uuid(&id)
});

native_function!(mint_token, |_call| text(token()?.as_bytes()));
