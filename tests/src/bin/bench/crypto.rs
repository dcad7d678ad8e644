//! What encrypting and decrypting a field costs beyond the scan, next to PostgreSQL's own functions and to pgcrypto:
//! 100,000 rows of 40 bytes, backend CPU time.

use anyhow::Result;
use rotator_tests::TestDb;
use rotator_tests::bench::{Bar, Record, backend_id, cpu_seconds, median};

const ROWS: f64 = 100_000.0;
const ROUNDS: usize = 9;
const NAMES: [&str; 4] = [
    "decrypt_vs_sha256",
    "decrypt_vs_convert_from",
    "decrypt_vs_pgcrypto",
    "encrypt_vs_decrypt",
];

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&NAMES) {
        return Ok(());
    }
    let db = TestDb::new().await?;
    let tenant = db.tenant("acme").await?;
    db.admin
        .batch_execute(&format!(
            "create extension pgcrypto;
             create table field as
             select n, gen_random_uuid() as id, 'credential-of-service-' || lpad(n::text, 18, '0') as plain
             from generate_series(1, {ROWS}) as n;
             alter table field add sealed bytea, add aes bytea, add bytes bytea;
             update field set
                 sealed = rotator_internal.seal_field('{tenant}', 'bench', id, plain),
                 aes = encrypt_iv(convert_to(plain, 'UTF8'), decode(repeat('6b', 32), 'hex'), decode(repeat('69', 16), 'hex'), 'aes'),
                 bytes = convert_to(plain, 'UTF8');
             create table fresh as select * from field;
             drop table field;
             alter table fresh rename to field;"
        ))
        .await?;
    db.admin.batch_execute("vacuum (analyze) field").await?;

    // Each next to a scan that reads the same columns and calls nothing.
    let statements = [
        format!("select count(rotator_internal.open_field('{tenant}', 'bench', id, sealed)) from field"),
        "select count(id), count(sealed) from field".to_owned(),
        format!("select count(rotator_internal.seal_field('{tenant}', 'bench', id, plain)) from field"),
        "select count(id), count(plain) from field".to_owned(),
        "select count(sha256(bytes)) from field".to_owned(),
        "select count(convert_from(bytes, 'UTF8')) from field".to_owned(),
        "select count(bytes) from field".to_owned(),
        "select count(decrypt_iv(aes, decode(repeat('6b', 32), 'hex'), decode(repeat('69', 16), 'hex'), 'aes')) from field"
            .to_owned(),
        "select count(aes) from field".to_owned(),
    ];
    let backend = backend_id(&db.admin).await?;
    let mut measured = vec![Vec::new(); statements.len()];
    for statement in &statements {
        cpu_seconds(&db.admin, backend, statement).await?; // warm: caches, keys, plans
    }
    for _ in 0..ROUNDS {
        for (statement, seconds) in statements.iter().zip(&mut measured) {
            seconds.push(cpu_seconds(&db.admin, backend, statement).await?);
        }
    }
    let mut micros = measured
        .iter_mut()
        .map(|seconds| median(seconds) * 1e6 / ROWS);
    let [
        decrypt,
        scan_sealed,
        encrypt,
        scan_plain,
        sha256,
        convert,
        scan_bytes,
        pgcrypto,
        scan_aes,
    ] = std::array::from_fn(|_| micros.next().unwrap_or(f64::NAN));
    let (decrypt, encrypt) = (decrypt - scan_sealed, encrypt - scan_plain);
    let (sha256, convert, pgcrypto) = (
        sha256 - scan_bytes,
        convert - scan_bytes,
        pgcrypto - scan_aes,
    );

    let detail = |other: &str, value: f64| {
        format!(
            "decrypt {decrypt:.3} µs, {other} {value:.3} µs a row beyond the scan; medians of {ROUNDS}, CPU time"
        )
    };
    record.add(
        NAMES[0],
        decrypt / sha256,
        "ratio",
        Bar::AtMost(0.4),
        &detail("sha256()", sha256),
    )?;
    record.add(
        NAMES[1],
        decrypt / convert,
        "ratio",
        Bar::AtMost(3.0),
        &detail("convert_from()", convert),
    )?;
    record.add(
        NAMES[2],
        pgcrypto / decrypt,
        "times",
        Bar::AtLeast(5.0),
        &detail("pgcrypto decrypt_iv()", pgcrypto),
    )?;
    record.add(
        NAMES[3],
        encrypt / decrypt,
        "ratio",
        Bar::AtMost(1.4),
        &detail("encrypt", encrypt),
    )
}
