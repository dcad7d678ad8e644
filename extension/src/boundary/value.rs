//! Arguments in, results out.
//!
//! Arguments are borrowed from the memory PostgreSQL passes (detoasted only when compressed or out of line); results are
//! built in place in memory of the current context. Text crosses as UTF-8: in a database of another encoding it is
//! converted both ways, so that ciphertext and indexes don't depend on the encoding of the database.

use std::borrow::Cow;
use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};

use pgrx::pg_sys::{self, pg_enc};
use pgrx::varlena::{set_varsize_4b, vardata_any, varsize_any_exhdr};

use super::Outcome;
use crate::errors::Failure;

/// Microseconds from 1970 to PostgreSQL's epoch, 2000.
pub const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
const VARLENA_HEADER: usize = 4;
/// Largest varlena PostgreSQL allocates (MaxAllocSize).
const LARGEST: usize = 0x3fff_ffff;

/// One call of a native function. Arguments are counted from zero; a method for an argument that may be NULL is called
/// only after [`Call::is_null`] said no, or on functions declared STRICT.
pub struct Call<'a> {
    fcinfo: pg_sys::FunctionCallInfo,
    arguments: PhantomData<&'a [pg_sys::NullableDatum]>,
}

impl<'a> Call<'a> {
    /// # Safety
    /// `fcinfo` comes from PostgreSQL and outlives `'a`; the SQL declaration of the function has the types that its body
    /// asks for (a test compares declarations with exported symbols).
    #[inline]
    pub unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Call<'a> {
        Call {
            fcinfo,
            arguments: PhantomData,
        }
    }

    pub fn fcinfo(&self) -> pg_sys::FunctionCallInfo {
        self.fcinfo
    }

    #[inline]
    fn argument(&self, index: usize) -> pg_sys::NullableDatum {
        // SAFETY: see `new`; the bound is checked by as_slice's length.
        unsafe {
            let count = (*self.fcinfo).nargs as usize;
            (*self.fcinfo).args.as_slice(count)[index]
        }
    }

    /// The argument as it came.
    pub fn datum(&self, index: usize) -> pg_sys::Datum {
        self.argument(index).value
    }

    #[inline]
    pub fn is_null(&self, index: usize) -> bool {
        self.argument(index).isnull
    }

    /// Marks the result as NULL.
    pub fn null(&self) -> pg_sys::Datum {
        // SAFETY: fcinfo is valid and ours for the length of the call.
        unsafe { (*self.fcinfo).isnull = true };
        pg_sys::Datum::from(0)
    }

    #[inline]
    pub fn uuid(&self, index: usize) -> &'a [u8; 16] {
        // SAFETY: a uuid datum points to 16 bytes that live as long as the call.
        unsafe { &*self.argument(index).value.cast_mut_ptr::<[u8; 16]>() }
    }

    pub fn int8(&self, index: usize) -> i64 {
        self.argument(index).value.value() as i64
    }

    /// A `xid8`.
    pub fn xid8(&self, index: usize) -> u64 {
        self.argument(index).value.value() as u64
    }

    /// A `timestamptz` as microseconds since 1970 UTC. Wraps around for the infinities and for years after 294247, so that
    /// no two instants give one number.
    pub fn unix_micros(&self, index: usize) -> i64 {
        self.int8(index).wrapping_add(POSTGRES_EPOCH)
    }

    pub fn boolean(&self, index: usize) -> bool {
        self.argument(index).value.value() as u8 != 0
    }

    /// The bytes of a `bytea`, or of a `text` in the server's encoding.
    #[inline(always)]
    pub fn bytes(&self, index: usize) -> &'a [u8] {
        // SAFETY: a varlena datum; detoasting gives it back unchanged unless compressed or out of line, else a copy in
        // the context of this call, which outlives 'a.
        unsafe {
            let pointer = self.argument(index).value.cast_mut_ptr::<pg_sys::varlena>();
            let pointer = if is_plain(pointer) {
                pointer
            } else {
                pg_sys::pg_detoast_datum_packed(pointer)
            };
            std::slice::from_raw_parts(vardata_any(pointer).cast(), varsize_any_exhdr(pointer))
        }
    }

    /// The length of a `bytea` and its first `N` bytes, if it has so many; no more of it is fetched or decompressed.
    pub fn start_of_bytes<const N: usize>(&self, index: usize) -> (usize, Option<[u8; N]>) {
        let datum = self.argument(index).value;
        // SAFETY: a varlena datum; the slice lives in the context of this call.
        unsafe {
            let length = pg_sys::toast_raw_datum_size(datum) - VARLENA_HEADER;
            let pointer = datum.cast_mut_ptr::<pg_sys::varlena>();
            let pointer = if is_plain(pointer) {
                pointer
            } else {
                pg_sys::pg_detoast_datum_slice(pointer, 0, N as i32)
            };
            let bytes: &[u8] =
                std::slice::from_raw_parts(vardata_any(pointer).cast(), varsize_any_exhdr(pointer));
            (length, bytes.first_chunk().copied())
        }
    }

    /// The bytes of a `text` as UTF-8.
    #[inline]
    pub fn utf8(&self, index: usize) -> &'a [u8] {
        to_utf8(self.bytes(index))
    }

    /// A `text` as a Rust string; bytes that are no UTF-8 (possible in SQL_ASCII databases) are replaced.
    pub fn text(&self, index: usize) -> Cow<'a, str> {
        String::from_utf8_lossy(self.utf8(index))
    }
}

/// Neither compressed nor out of line.
///
/// # Safety
/// `pointer` points to a varlena.
#[inline]
unsafe fn is_plain(pointer: *const pg_sys::varlena) -> bool {
    // SAFETY: the first byte of a varlena is always readable.
    unsafe {
        (pgrx::varlena::varatt_is_1b(pointer) && !pgrx::varlena::varatt_is_1b_e(pointer))
            || pgrx::varlena::varatt_is_4b_u(pointer)
    }
}

/// Whether text needs no conversion. A backend never changes its database, so PostgreSQL is asked once; the postmaster
/// has none and never asks, so its children inherit no answer.
#[inline(always)]
fn is_utf8_database() -> bool {
    static ENCODING: AtomicI32 = AtomicI32::new(UNKNOWN);
    const UNKNOWN: c_int = -2;
    let mut encoding = ENCODING.load(Ordering::Relaxed);
    if encoding == UNKNOWN {
        // SAFETY: reads a variable of the backend.
        encoding = unsafe { pg_sys::GetDatabaseEncoding() };
        ENCODING.store(encoding, Ordering::Relaxed);
    }
    encoding == pg_enc::PG_UTF8 as c_int
}

#[inline(always)]
fn to_utf8(bytes: &[u8]) -> &[u8] {
    if is_utf8_database() {
        bytes
    } else {
        converted(bytes, pg_sys::pg_server_to_any)
    }
}

/// Text from UTF-8 to the server's encoding.
fn to_server(bytes: &[u8]) -> &[u8] {
    if is_utf8_database() {
        bytes
    } else {
        converted(bytes, pg_sys::pg_any_to_server)
    }
}

fn converted(
    bytes: &[u8],
    convert: unsafe fn(*const c_char, c_int, c_int) -> *mut c_char,
) -> &[u8] {
    // SAFETY: both functions give the same pointer when nothing changes, else a palloc'd C string; PostgreSQL's values
    // are shorter than 2^30 bytes.
    unsafe {
        let source = bytes.as_ptr().cast::<c_char>();
        let result = convert(source, bytes.len() as c_int, pg_enc::PG_UTF8 as c_int);
        if std::ptr::eq(result, source) {
            bytes
        } else {
            std::ffi::CStr::from_ptr(result).to_bytes()
        }
    }
}

/// `size` (at most `LARGEST`) bytes of the current memory context.
///
/// pgrx guards each call of `palloc` with `sigsetjmp`, a tenth of the price of opening a field. This variant of it
/// never raises, so it needs no guard.
#[inline]
fn allocate(size: usize) -> Result<*mut c_void, Failure> {
    unsafe extern "C-unwind" {
        fn palloc_extended(size: usize, flags: c_int) -> *mut c_void;
    }
    // SAFETY: raises neither on too little memory (the flag) nor on a wrong size (checked by the caller).
    let pointer = unsafe { palloc_extended(size, pg_sys::MCXT_ALLOC_NO_OOM as c_int) };
    if pointer.is_null() {
        Err(Failure::OutOfMemory)
    } else {
        Ok(pointer)
    }
}

/// A varlena of `length` bytes, filled in place.
#[inline]
fn filled(
    length: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<(), Failure>,
) -> Result<pg_sys::Datum, Failure> {
    let size = length + VARLENA_HEADER;
    if size > LARGEST {
        return Err(Failure::BadArgument {
            problem: "the value is longer than PostgreSQL can store".into(),
            hint: "Keep values below 1 GB.",
        });
    }
    let pointer = allocate(size)?.cast::<pg_sys::varlena>();
    // SAFETY: `pointer` has room for `size` bytes; they are initialised before they are borrowed.
    let (pointer, body) = unsafe {
        set_varsize_4b(pointer, size as i32);
        let body = pointer.cast::<u8>().add(VARLENA_HEADER);
        body.write_bytes(0, length);
        (pointer, std::slice::from_raw_parts_mut(body, length))
    };
    fill(body)?;
    Ok(pg_sys::Datum::from(pointer))
}

/// A `bytea` of `length` bytes, filled in place.
#[inline]
pub fn bytea_filled(length: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), Failure>) -> Outcome {
    filled(length, fill).map(Some)
}

/// A `text` of `length` bytes of UTF-8, filled in place.
#[inline]
pub fn text_filled(length: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), Failure>) -> Outcome {
    let datum = filled(length, fill)?;
    if is_utf8_database() {
        return Ok(Some(datum));
    }
    // SAFETY: `datum` is the varlena just made.
    let bytes = unsafe {
        let body = datum.cast_mut_ptr::<u8>().add(VARLENA_HEADER);
        std::slice::from_raw_parts(body, length)
    };
    text(bytes)
}

/// A `bytea` with these bytes.
pub fn bytea(bytes: &[u8]) -> Outcome {
    bytea_filled(bytes.len(), |body| {
        body.copy_from_slice(bytes);
        Ok(())
    })
}

/// A `text` of these UTF-8 bytes.
pub fn text(bytes: &[u8]) -> Outcome {
    bytea(to_server(bytes))
}

/// A `bigint`.
pub fn int8(number: i64) -> Outcome {
    Ok(Some(pg_sys::Datum::from(number)))
}

/// A `xid8`.
pub fn xid8(id: u64) -> Outcome {
    Ok(Some(pg_sys::Datum::from(id)))
}

/// A `boolean`.
pub fn boolean(truth: bool) -> Outcome {
    Ok(Some(pg_sys::Datum::from(truth)))
}

/// A `uuid`.
pub fn uuid(id: &[u8; 16]) -> Outcome {
    let pointer = allocate(16)?.cast::<[u8; 16]>();
    // SAFETY: `pointer` has room for 16 bytes.
    unsafe { pointer.write(*id) };
    Ok(Some(pg_sys::Datum::from(pointer)))
}

/// A `text[]` with NULLs where an element is missing.
pub fn text_array<const N: usize>(elements: [Option<&str>; N]) -> Outcome {
    let mut nulls = elements.map(|element| element.is_none());
    let mut values = [pg_sys::Datum::from(0); N];
    for (value, element) in values.iter_mut().zip(elements) {
        if let Some(datum) = element
            .map(|element| text(element.as_bytes()))
            .transpose()?
            .flatten()
        {
            *value = datum;
        }
    }
    let (mut dimensions, mut lower_bounds) = ([N as c_int], [1]);
    // SAFETY: N values and N null flags for one dimension of N; text is a varlena of alignment 'i'.
    unsafe {
        let array = pg_sys::construct_md_array(
            values.as_mut_ptr(),
            nulls.as_mut_ptr(),
            1,
            dimensions.as_mut_ptr(),
            lower_bounds.as_mut_ptr(),
            pg_sys::TEXTOID,
            -1,
            false,
            b'i' as c_char,
        );
        Ok(Some(pg_sys::Datum::from(array)))
    }
}

/// A row of the function's OUT parameters.
pub fn record<const N: usize>(call: &Call<'_>, columns: [Option<pg_sys::Datum>; N]) -> Outcome {
    let mut nulls = columns.map(|column| column.is_none());
    let mut values = columns.map(|column| column.unwrap_or(pg_sys::Datum::from(0)));
    // SAFETY: the descriptor comes from the function's declaration and is checked to have N columns.
    unsafe {
        let mut descriptor: pg_sys::TupleDesc = std::ptr::null_mut();
        let class =
            pg_sys::get_call_result_type(call.fcinfo(), std::ptr::null_mut(), &mut descriptor);
        if class != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE || (*descriptor).natts as usize != N {
            return Err(Failure::Internal {
                what: "a native function is declared with other columns than it gives",
            });
        }
        let descriptor = pg_sys::BlessTupleDesc(descriptor);
        let tuple = pg_sys::heap_form_tuple(descriptor, values.as_mut_ptr(), nulls.as_mut_ptr());
        Ok(Some(pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)))
    }
}
