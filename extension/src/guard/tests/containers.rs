//! Private keys in every container, as far as the guard reads one: right headers around random bytes.

use super::chance::{BASE62, Chance, HEX, UPPER, base64, hex};

/// An element of DER.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match content.len() {
        length @ 0..=127 => bytes.push(length as u8),
        length @ 128..=255 => bytes.extend([0x81, length as u8]),
        length => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    bytes.extend(content);
    bytes
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// DER of private keys, and of stores of them.
pub fn binary(chance: &mut Chance) -> Vec<Vec<u8>> {
    let version = |number: u8| element(0x02, &[number]);
    let mut modulus = chance.bytes(257);
    modulus[0] = 0;
    let of = |oid: &[u8]| element(0x30, &element(0x06, oid));
    let mut openssh = b"openssh-key-v1\0\0\0\0\x04none".to_vec();
    openssh.extend(chance.bytes(200));
    let mut keystore = vec![0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1];
    keystore.extend(chance.bytes(300));
    let mut pgp = vec![0x95, 0x03, 0x98, 4, 0x65, 0x10, 0x22, 0x33, 1];
    pgp.extend(chance.bytes(300));
    vec![
        sequence(&[version(0), of(RSA), element(0x04, &chance.bytes(600))]),
        sequence(&[version(0), of(EC), element(0x04, &chance.bytes(110))]),
        sequence(&[version(0), of(ED25519), element(0x04, &chance.bytes(34))]),
        sequence(&[
            version(0),
            element(0x02, &modulus),
            element(0x02, &chance.bytes(300)),
        ]),
        sequence(&[
            version(1),
            element(0x04, &chance.bytes(32)),
            element(0xa0, EC),
        ]),
        sequence(&[of(PBES2), element(0x04, &chance.bytes(300))]),
        sequence(&[
            version(3),
            sequence(&[element(0x06, DATA), element(0xa0, &chance.bytes(500))]),
        ]),
        openssh,
        keystore,
        pgp,
    ]
}

fn pem(kind: &str, body: &[u8]) -> String {
    let body = base64(body);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap_or_default())
        .collect();
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----",
        lines.join("\n")
    )
}

/// Text that holds a private key, in every way the guard knows.
pub fn private_keys(chance: &mut Chance) -> impl Iterator<Item = String> + use<> {
    let mut made = Vec::new();
    for kind in [
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "DSA PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "PGP PRIVATE KEY BLOCK",
    ] {
        let text = pem(kind, &chance.bytes(120));
        made.push(base64(text.as_bytes()));
        made.push(text);
    }
    for bytes in binary(chance) {
        let text = base64(&bytes);
        made.push(hex(&bytes));
        made.push(base64(text.as_bytes()));
        made.push(text);
    }
    made.push(format!("---- BEGIN SSH2 ENCRYPTED {} ----", "PRIVATE KEY"));
    made.push(format!(
        "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n{}",
        chance.text(HEX, 40)
    ));
    made.push(format!("AGE-SECRET-KEY-1{}", chance.text(UPPER, 56) + "Q7"));
    made.push(format!("PrivateKey = {}=", chance.text(BASE62, 43)));
    made.push(format!(
        "<RSAKeyValue><Modulus>{0}</Modulus><D>{0}</D></RSAKeyValue>",
        chance.text(BASE62, 80)
    ));
    made.push(format!(
        "untrusted comment: minisign encrypted secret key\n{}",
        chance.text(BASE62, 100)
    ));
    made.into_iter()
}
