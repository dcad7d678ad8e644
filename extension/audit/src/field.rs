//! Fields of an encoding: a tag, 0 for null and 1 for a value, then for a value its length as eight bytes, the highest
//! first, and its bytes.

const NULL: u8 = 0;
const PRESENT: u8 = 1;

/// Appends a count or length: eight bytes, the highest first.
pub fn push_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as u64).to_be_bytes());
}

/// Appends a field that has a value.
pub fn push(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(PRESENT);
    push_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a field that may be null.
pub fn push_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => push(out, bytes),
        None => out.push(NULL),
    }
}

/// Appends a field that `write` appends itself; its length is put in front afterwards.
pub fn push_written<E>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    out.push(PRESENT);
    let start = out.len();
    push_length(out, 0);
    write(out)?;
    let length = (out.len() - start - 8) as u64;
    out[start..start + 8].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_differ() {
        let (mut null, mut empty) = (Vec::new(), Vec::new());
        push_optional(&mut null, None);
        push_optional(&mut empty, Some(b""));
        assert_eq!(null, [0]);
        assert_eq!(empty, [1, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_written_field_is_as_one_that_was_pushed() {
        let (mut pushed, mut written) = (vec![9], vec![9]);
        push(&mut pushed, b"abc");
        push_written(&mut written, |out| {
            out.extend_from_slice(b"abc");
            Ok::<(), ()>(())
        })
        .expect("never fails");
        assert_eq!(pushed, written);
    }
}
