//! Arguments that nobody should give: for each type nulls, extremes, what is too long, cut short or bent, and now and
//! then something that exists. For `random_sql`, which gives them to every function.

use rotator_tests::Chance;

/// An argument of this type as an expression; `known` are ids, ciphertexts and names that exist.
pub fn argument(chance: &mut Chance, kind: &str, known: &[String]) -> String {
    if chance.once_in(6) {
        return format!("null::{kind}");
    }
    if let Some(element) = kind.strip_suffix("[]") {
        let elements: Vec<String> = (0..chance.below(4))
            .map(|_| argument(chance, element, known))
            .collect();
        return match chance.below(8) {
            0 => format!(
                "array_fill({}, array[2, 3])::{kind}",
                argument(chance, element, known)
            ),
            1 => format!(
                "array_fill({}, array[20000])::{kind}",
                argument(chance, element, known)
            ),
            _ => format!("array[{}]::{kind}", elements.join(", ")),
        };
    }
    let exists = chance.one_of(known).replace('\'', "''");
    let drawn = |chance: &mut Chance, choices: &[&str]| (*chance.one_of(choices)).to_owned();
    match kind {
        "text" | "name" | "character varying" => {
            let texts = [
                "''",
                "' '",
                "'x'",
                "'acme'",
                "'beta'",
                "'db:postgres'",
                "'admin'",
                "'email'",
                "'null'",
                "'{}'",
                "'[]'",
                "'*'",
                "'%'",
                "repeat('x', 300)",
                "repeat('y', 100001)",
                "repeat('é€𝄞', 50000)",
                "chr(1)",
                "chr(8238)",
                "chr(65279)",
                "E'a\\nb'",
                "'''; drop table x; --'",
                "'-1'",
                "'* * * * *'",
                "'99999999999999999999'",
                "'infinity'",
                "'secret.name'",
                "'data'",
                "'acme/1'",
                "'01890000-0000-7000-8000-000000000000'",
                "'{\"a\":'",
                "repeat('[', 100000)",
                "'AKIAIOSFODNN7EXAMPLE'",
                "'tenant_id'",
                "'pg_catalog'",
                "U&'\\D83D\\DE00'",
                "normalize('e' || chr(769), NFD)",
            ];
            match chance.below(3) {
                0 => format!("'{exists}'::{kind}"),
                _ => format!("({})::{kind}", drawn(chance, &texts)),
            }
        }
        "uuid" => match chance.below(3) {
            0 => "'00000000-0000-0000-0000-000000000000'::uuid".to_owned(),
            1 => "gen_random_uuid()".to_owned(),
            _ if exists.len() == 36 && exists.contains('-') => format!("'{exists}'::uuid"),
            _ => "'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid".to_owned(),
        },
        "bytea" => {
            let known_bytes = known
                .iter()
                .filter(|known| known.starts_with("\\x"))
                .collect::<Vec<_>>();
            let real = format!("'{}'::bytea", chance.one_of(&known_bytes));
            match chance.below(6) {
                0 => real,
                1 => format!("substr({real}, 1, {})", chance.below(60)),
                2 => format!(
                    "set_byte({real}, {}, {})",
                    chance.below(30),
                    chance.below(256)
                ),
                3 => format!("{real} || '\\x00'::bytea"),
                4 => format!(
                    "decode(repeat('{:02x}', {}), 'hex')",
                    chance.below(256),
                    chance.below(200)
                ),
                _ => drawn(
                    chance,
                    &[
                        "''::bytea",
                        "convert_to(repeat('z', 1000000), 'UTF8')",
                        "'\\x01'::bytea",
                    ],
                ),
            }
        }
        "integer" => drawn(
            chance,
            &["0", "1", "-1", "7", "100", "2147483647", "(-2147483648)"],
        ),
        "bigint" | "xid8" => {
            let number = drawn(
                chance,
                &["0", "1", "2", "3", "4294967296", "9223372036854775807"],
            );
            format!("'{number}'::{kind}")
        }
        "smallint" => drawn(
            chance,
            &["0::smallint", "(-32768)::smallint", "32767::smallint"],
        ),
        "boolean" => drawn(chance, &["true", "false"]),
        "double precision" | "numeric" | "real" => format!(
            "'{}'::{kind}",
            drawn(chance, &["0", "-1", "NaN", "Infinity", "1e37"])
        ),
        "timestamp with time zone" | "date" | "timestamp without time zone" => {
            let moments = [
                "infinity",
                "-infinity",
                "now",
                "epoch",
                "0001-01-01 BC",
                "9999-12-31",
                "2026-02-28",
                "2040-06-01",
            ];
            format!("'{}'::{kind}", drawn(chance, &moments))
        }
        "interval" => {
            let spans = [
                "0",
                "-1 day",
                "1 microsecond",
                "90 days",
                "1 month -30 days",
                "178000000 years",
                "-178000000 years",
                "2147483647 months",
                "1 year 1 mon 1 day 1 second",
                "1 hour",
            ];
            format!("'{}'::interval", drawn(chance, &spans))
        }
        "jsonb" | "json" => {
            let documents = [
                "'{}'",
                "'[]'",
                "'null'",
                "'1'",
                "'\"x\"'",
                "'[[]]'",
                "'[null]'",
                "'[{}]'",
                "'{\"a\": {\"b\": [1e400]}}'",
                "'[{\"name\": 1, \"expiry_date\": {}, \"rotation_interval\": []}]'",
                "'[{\"name\": \"n\", \"rotation_interval\": \"-1 day\"}]'",
                "'[{\"name\": \"n\", \"expiry_date\": \"2999-99-99\"}, 3, \"x\"]'",
                "'[{\"id\": \"x\", \"claim_id\": 1, \"ok\": \"maybe\"}]'",
                "(select jsonb_agg(n) from generate_series(1, 20000) as n)",
                "to_jsonb(repeat('k', 300000))",
                "(select jsonb_object_agg(n, n) from generate_series(1, 5000) as n)",
                "'{\"days\": [\"mon\"], \"from\": \"25:00\"}'",
            ];
            format!("({})::{kind}", drawn(chance, &documents))
        }
        "regclass" => drawn(
            chance,
            &[
                "'public.host'::regclass",
                "0::regclass",
                "4294967295::oid::regclass",
                "'rotator.secrets'::regclass",
                "'pg_class'::regclass",
            ],
        ),
        "oid" => drawn(
            chance,
            &["0::oid", "'public.host'::regclass::oid", "4294967295::oid"],
        ),
        "tid" => drawn(
            chance,
            &["'(0,0)'::tid", "'(0,1)'::tid", "'(4294967295,65535)'::tid"],
        ),
        "\"char\"" => drawn(chance, &["'r'::\"char\"", "''::\"char\""]),
        _ => format!("null::{kind}"),
    }
}
