//! The root over the leaves of a block: the Merkle tree hash of RFC 6962, 2.1, over leaves that are hashed already.

use sha2::{Digest, Sha256};

use crate::Hash;

const NODE: u8 = 1;

/// The root. Of no leaves it is the hash of nothing, as in the RFC; of one leaf it is that leaf.
pub fn root(leaves: &[Hash]) -> Hash {
    // A stack of complete subtrees, the largest first. Joining the last two whenever they have one size, and what is left
    // at the end from the right, splits at the largest power of two below the count, as the RFC does.
    let mut stack: Vec<(u32, Hash)> = Vec::new();
    for leaf in leaves {
        let (mut level, mut hash) = (0, *leaf);
        while let Some((_, left)) = stack.pop_if(|(top, _)| *top == level) {
            hash = node(&left, &hash);
            level += 1;
        }
        stack.push((level, hash));
    }
    stack
        .into_iter()
        .rev()
        .map(|(_, hash)| hash)
        .reduce(|right, left| node(&left, &right))
        .unwrap_or_else(|| Sha256::digest([]).into())
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut input = [NODE; 65];
    input[1..33].copy_from_slice(left);
    input[33..].copy_from_slice(right);
    Sha256::digest(input).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    /// The inputs of the test suite of Certificate Transparency, RFC 6962's reference implementation
    /// (`merkle_tree_test.cc`), and the roots after each of them.
    const INPUTS: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn leaves() -> Vec<Hash> {
        INPUTS
            .iter()
            .map(|input| {
                let mut bytes = vec![0];
                bytes.extend(
                    (0..input.len())
                        .step_by(2)
                        .map(|at| u8::from_str_radix(&input[at..at + 2], 16).expect("hexadecimal")),
                );
                Sha256::digest(bytes).into()
            })
            .collect()
    }

    #[test]
    fn agrees_with_the_vectors_of_certificate_transparency() {
        let leaves = leaves();
        for (count, expected) in (1..=8).zip(ROOTS) {
            assert_eq!(
                hex::encode(&root(&leaves[..count])),
                expected,
                "{count} leaves"
            );
        }
        assert_eq!(
            hex::encode(&root(&[])),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn agrees_with_the_definition_at_every_size() {
        fn defined(leaves: &[Hash]) -> Hash {
            match leaves {
                [] => Sha256::digest([]).into(),
                [leaf] => *leaf,
                _ => {
                    let split = leaves.len().next_power_of_two() / 2;
                    node(&defined(&leaves[..split]), &defined(&leaves[split..]))
                }
            }
        }
        let leaves: Vec<Hash> = (0..=255_u8).map(|n| Sha256::digest([n]).into()).collect();
        for count in 0..leaves.len() {
            assert_eq!(
                root(&leaves[..count]),
                defined(&leaves[..count]),
                "{count} leaves"
            );
        }
    }
}
