//! Which of several servers has a name: jump consistent hash.
//!
//! Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", 2014 (<https://arxiv.org/abs/1406.2294>). Where
//! one server is added behind the others, only the names that it gets move.
//!
//! The key is the first eight bytes of SHA-256 of the name. Publishers compute it, too, in any language. PHP, Python
//! and Node have SHA-256 built in. None of them has a 64-bit hash without a multiplication of 64 bits, which PHP does
//! in floating point. docs/SERVERS.md has the function in these languages.

use aws_lc_rs::digest::{SHA256, digest};

/// The server, from 0, of `count` that has this name. `count` is at least 1.
pub(super) fn jump_hash(name: &[u8], count: usize) -> usize {
    let digest = digest(&SHA256, name);
    let first = digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
    jump(u64::from_be_bytes(*first), count)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the paper computes so: both numbers are below 2^53, and the result is not negative"
)]
fn jump(mut key: u64, count: usize) -> usize {
    let (mut server, mut next) = (0, 0_u64);
    while next < count as u64 {
        server = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let share = (1_u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((server + 1) as f64 * share) as u64;
    }
    usize::try_from(server).expect("it is below count")
}

#[cfg(test)]
mod tests {
    use super::{jump, jump_hash};

    /// Those of the Guava and Go implementations of the paper.
    #[test]
    fn it_is_the_function_of_the_paper() {
        for (key, count, expected) in [
            (1, 1, 0),
            (42, 57, 43),
            (0xDEAD_10CC, 1, 0),
            (0xDEAD_10CC, 666, 361),
            (256, 1024, 520),
            (0, 1, 0),
        ] {
            assert_eq!(jump(key, count), expected, "{key} {count}");
        }
    }

    #[test]
    fn a_name_has_the_server_that_the_guide_says() {
        for (name, expected) in [
            ("", [0, 1, 2, 2, 5]),
            ("news", [0, 1, 1, 3, 6]),
            ("orders:7", [0, 1, 1, 1, 1]),
            ("user:42", [0, 1, 1, 1, 1]),
            ("grüße", [0, 1, 2, 4, 5]),
        ] {
            let found = [1, 2, 3, 5, 9].map(|count| jump_hash(name.as_bytes(), count));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn an_added_server_takes_its_share_and_moves_nothing_else() {
        let names: Vec<String> = (0..9000).map(|number| format!("channel:{number}")).collect();
        for count in 1..9 {
            let mut taken = 0;
            for name in &names {
                let before = jump_hash(name.as_bytes(), count);
                let after = jump_hash(name.as_bytes(), count + 1);
                assert!(after == before || after == count, "{name} {count}");
                taken += usize::from(after == count);
            }
            let share = names.len() / (count + 1);
            assert!(taken.abs_diff(share) < share / 8, "{count}: {taken} of {share}");
        }
    }
}
