//! Reading a row of `rotator_internal.encryption_key`, and asking functions of ours: the only SQL in this library.
//!
//! Callers have no grant on the table, so it is read as the bootstrap superuser, inside a security-restricted operation
//! like PostgreSQL's own referential integrity checks. Every operator and type is qualified: the caller's search_path
//! must not choose what runs with those rights. The snapshot is the latest one, not the statement's: a row that was
//! re-encrypted by a concurrent transaction may carry a key that the statement's snapshot doesn't see yet. (In
//! a parallel worker PostgreSQL allows only the statement's; no row is updated there.)

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::ptr;

use pgrx::pg_sys;

use super::Purpose;
use crate::crypto::TenantId;
use crate::errors::Failure;

const KEY_BY_ID: &CStr =
    c"select wrapped_key, master_key_id, check_value, status, purpose, tenant_id \
    from rotator_internal.encryption_key where id operator(pg_catalog.=) $1";

const ACTIVE_KEY: &CStr = c"select id from rotator_internal.encryption_key \
    where tenant_id operator(pg_catalog.=) $1 and purpose::pg_catalog.text operator(pg_catalog.=) $2 \
    and status operator(pg_catalog.=) 'active' order by id desc limit 1";

const CURRENT_TENANT: &CStr = c"select rotator.current_tenant()";

const RESERVE_USES: &CStr = c"select rotator_internal.reserve_uses($1, $2, $3)";

const NEWEST_KEY: &CStr = c"select id from rotator_internal.encryption_key \
    where wrapped_key is not null and id operator(pg_catalog.<) $1 \
    and pg_catalog.strpos($2, pg_catalog.replace(tenant_id::pg_catalog.text, '-', '')) operator(pg_catalog.=) 0 \
    and (master_key_id operator(pg_catalog.=) $3 or $3 operator(pg_catalog.=) '') \
    order by id desc limit 1";

thread_local! {
    static KEY_BY_ID_PLAN: Cell<pg_sys::SPIPlanPtr> = const { Cell::new(ptr::null_mut()) };
    static ACTIVE_KEY_PLAN: Cell<pg_sys::SPIPlanPtr> = const { Cell::new(ptr::null_mut()) };
    static CURRENT_TENANT_PLAN: Cell<pg_sys::SPIPlanPtr> = const { Cell::new(ptr::null_mut()) };
    static RESERVE_USES_PLAN: Cell<pg_sys::SPIPlanPtr> = const { Cell::new(ptr::null_mut()) };
    static NEWEST_KEY_PLAN: Cell<pg_sys::SPIPlanPtr> = const { Cell::new(ptr::null_mut()) };
}

/// A row of the table. A destroyed key has no bytes left.
pub struct KeyRow {
    pub wrapped_key: Option<Vec<u8>>,
    pub master_key_id: Option<String>,
    pub check_value: Option<Vec<u8>>,
    pub status: String,
    pub purpose: String,
    pub tenant: TenantId,
}

/// The key with this id.
pub fn key_by_id(id: i64) -> Result<Option<KeyRow>, Failure> {
    let mut types = [pg_sys::INT8OID];
    let mut values = [pg_sys::Datum::from(id)];
    KEY_BY_ID_PLAN.with(|plan| {
        read_keys(plan, KEY_BY_ID, &mut types, &mut values, |row| {
            Some(KeyRow {
                wrapped_key: row.bytes(1),
                master_key_id: row.text(2),
                check_value: row.bytes(3),
                status: row.text(4)?,
                purpose: row.text(5)?,
                tenant: row.uuid(6)?,
            })
        })
    })
}

/// Id of the key that `tenant` writes with.
pub fn active_key(tenant: &TenantId, purpose: Purpose) -> Result<Option<i64>, Failure> {
    let purpose =
        crate::boundary::text(purpose.name().as_bytes())?.unwrap_or(pg_sys::Datum::from(0));
    let mut types = [pg_sys::UUIDOID, pg_sys::TEXTOID];
    let mut values = [pg_sys::Datum::from(ptr::from_ref(tenant)), purpose];
    ACTIVE_KEY_PLAN
        .with(|plan| read_keys(plan, ACTIVE_KEY, &mut types, &mut values, |row| row.int8(1)))
}

/// The newest key below `before` of another tenant than these (hex digits), under this master key or, if it is empty,
/// under any; with its id.
pub fn newest_key(
    before: i64,
    tenants: &str,
    master_key_id: &str,
) -> Result<Option<(i64, KeyRow)>, Failure> {
    let text = |value: &str| {
        let datum = crate::boundary::text(value.as_bytes())?;
        Ok::<_, Failure>(datum.unwrap_or(pg_sys::Datum::from(0)))
    };
    let mut types = [pg_sys::INT8OID, pg_sys::TEXTOID, pg_sys::TEXTOID];
    let mut values = [
        pg_sys::Datum::from(before),
        text(tenants)?,
        text(master_key_id)?,
    ];
    let id = NEWEST_KEY_PLAN
        .with(|plan| read_keys(plan, NEWEST_KEY, &mut types, &mut values, |row| row.int8(1)))?;
    let Some(id) = id else {
        return Ok(None);
    };
    Ok(key_by_id(id)?.map(|row| (id, row)))
}

/// The tenant of this session, asked as the caller and by the statement's snapshot, as a policy would.
pub fn current_tenant() -> Result<Option<TenantId>, Failure> {
    CURRENT_TENANT_PLAN.with(|plan| {
        query(plan, CURRENT_TENANT, &mut [], &mut [], true, |row| {
            row.uuid(1)
        })
    })
}

/// Reserves `wanted` uses of a key in this transaction and gives how many there were left, or `None` when SQL
/// wrote none and didn't say why.
pub fn reserve_uses(tenant: &TenantId, id: i64, wanted: u64) -> Result<Option<u64>, Failure> {
    let mut types = [pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID];
    let mut values = [
        pg_sys::Datum::from(ptr::from_ref(tenant)),
        pg_sys::Datum::from(id),
        pg_sys::Datum::from(wanted as i64),
    ];
    let _user = AsBootstrapSuperuser::begin();
    if !keeps_accounts() {
        return Ok(Some(wanted));
    }
    let granted = RESERVE_USES_PLAN.with(|plan| {
        query(plan, RESERVE_USES, &mut types, &mut values, false, |row| {
            row.int8(1)
        })
    })?;
    Ok(granted.and_then(|uses| uses.try_into().ok()))
}

/// Whether the SQL of this database counts uses. That of 0.1.0 doesn't: between the new library and `alter extension
/// rotator update` they are counted in memory alone.
fn keeps_accounts() -> bool {
    let arguments = [pg_sys::UUIDOID, pg_sys::INT8OID, pg_sys::INT8OID];
    // SAFETY: a list of two strings that outlive the call, and as many types as it is told.
    unsafe {
        let schema = pg_sys::makeString(c"rotator_internal".as_ptr().cast_mut());
        let function = pg_sys::makeString(c"reserve_uses".as_ptr().cast_mut());
        let name = pg_sys::lappend(ptr::null_mut(), schema.cast());
        let name = pg_sys::lappend(name, function.cast());
        let found =
            pg_sys::LookupFuncName(name, arguments.len() as c_int, arguments.as_ptr(), true);
        found != pg_sys::InvalidOid
    }
}

/// Runs `sql` as described above and reads its first row.
fn read_keys<R>(
    plan: &Cell<pg_sys::SPIPlanPtr>,
    sql: &CStr,
    types: &mut [pg_sys::Oid],
    values: &mut [pg_sys::Datum],
    read: impl FnOnce(&Row) -> Option<R>,
) -> Result<Option<R>, Failure> {
    let _user = AsBootstrapSuperuser::begin();
    // SAFETY: an ERROR below unwinds through here; the abort of the (sub)transaction that has to follow it pops the
    // snapshot, and dropping `_user` restores the user.
    unsafe {
        let own_snapshot = !pg_sys::IsInParallelMode();
        if own_snapshot {
            pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        }
        let found = query(plan, sql, types, values, true, read);
        if own_snapshot {
            pg_sys::PopActiveSnapshot();
        }
        found
    }
}

/// Runs `sql`, by the active snapshot if `read_only`, and reads its first row.
fn query<R>(
    plan: &Cell<pg_sys::SPIPlanPtr>,
    sql: &CStr,
    types: &mut [pg_sys::Oid],
    values: &mut [pg_sys::Datum],
    read_only: bool,
    read: impl FnOnce(&Row) -> Option<R>,
) -> Result<Option<R>, Failure> {
    let failed = Failure::Internal {
        what: "rotator could not read its key table",
    };
    // SAFETY: SPI's own order of calls. An ERROR below unwinds through here; the abort of the (sub)transaction that has
    // to follow it closes SPI.
    unsafe {
        if pg_sys::SPI_connect() != pg_sys::SPI_OK_CONNECT as c_int {
            return Err(failed);
        }
        if plan.get().is_null() {
            let prepared =
                pg_sys::SPI_prepare(sql.as_ptr(), types.len() as c_int, types.as_mut_ptr());
            if prepared.is_null() || pg_sys::SPI_keepplan(prepared) != 0 {
                return Err(failed);
            }
            plan.set(prepared);
        }
        let status =
            pg_sys::SPI_execute_plan(plan.get(), values.as_mut_ptr(), ptr::null(), read_only, 1);
        if status != pg_sys::SPI_OK_SELECT as c_int {
            return Err(failed);
        }
        let found = if pg_sys::SPI_processed == 0 {
            None
        } else {
            Some(Row::first())
        };
        let result = found.and_then(|row| read(&row));
        pg_sys::SPI_finish();
        Ok(result)
    }
}

/// The first row of the current SPI result; read only between SPI_execute_plan and SPI_finish.
struct Row {
    tuple: pg_sys::HeapTuple,
    descriptor: pg_sys::TupleDesc,
}

impl Row {
    /// # Safety
    /// SPI's current result has at least one row.
    unsafe fn first() -> Row {
        // SAFETY: see above.
        unsafe {
            let table = pg_sys::SPI_tuptable;
            Row {
                tuple: *(*table).vals,
                descriptor: (*table).tupdesc,
            }
        }
    }

    fn datum(&self, column: c_int) -> Option<pg_sys::Datum> {
        let mut is_null = false;
        // SAFETY: the row is alive (see the type); SPI checks the column number.
        let datum =
            unsafe { pg_sys::SPI_getbinval(self.tuple, self.descriptor, column, &mut is_null) };
        (!is_null).then_some(datum)
    }

    fn bytes(&self, column: c_int) -> Option<Vec<u8>> {
        let datum = self.datum(column)?;
        // SAFETY: the column is a bytea.
        unsafe {
            let varlena = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
            Some(pgrx::varlena::varlena_to_byte_slice(varlena).to_vec())
        }
    }

    fn int8(&self, column: c_int) -> Option<i64> {
        Some(self.datum(column)?.value() as i64)
    }

    fn uuid(&self, column: c_int) -> Option<TenantId> {
        // SAFETY: the column is a uuid: a pointer to 16 bytes.
        Some(unsafe { *self.datum(column)?.cast_mut_ptr::<TenantId>() })
    }

    /// Any type, as its output function prints it.
    fn text(&self, column: c_int) -> Option<String> {
        // SAFETY: as in `datum`; the result is a C string in SPI's memory, or null.
        unsafe {
            let text = pg_sys::SPI_getvalue(self.tuple, self.descriptor, column);
            (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }
}

/// The bootstrap superuser until dropped.
struct AsBootstrapSuperuser {
    user: pg_sys::Oid,
    context: c_int,
}

impl AsBootstrapSuperuser {
    fn begin() -> AsBootstrapSuperuser {
        let mut before = AsBootstrapSuperuser {
            user: pg_sys::InvalidOid,
            context: 0,
        };
        // SAFETY: reads and sets the backend's user; undone by drop.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context);
            let restricted =
                pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
            pg_sys::SetUserIdAndSecContext(
                pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID),
                before.context | restricted as c_int,
            );
        }
        before
    }
}

impl Drop for AsBootstrapSuperuser {
    fn drop(&mut self) {
        // SAFETY: sets what `begin` found; never raises.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}
