use std::collections::HashMap;
use std::hash::Hasher as _;

use proptest::prelude::*;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::{BLOCK, HashSecret, KeyedHash};

/// A secret that is the same in every test.
fn secret() -> HashSecret {
    let mut state = 7_u64;
    let bytes = std::array::from_fn(|_| {
        // Knuth's linear generator; the upper bits of its numbers look random.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    });
    HashSecret::from_bytes(&bytes)
}

/// The same name by the text book, word for word.
fn slow_name(secret: &HashSecret, text: &[u8]) -> KeyedHash {
    let mut prf: SipHasher24 = secret.prf;
    for block in text.chunks(16 * BLOCK) {
        for shift in [0, 1] {
            let mut sum = 0_u128;
            for (place, pair) in block.chunks(16).enumerate() {
                let mut words = [0_u64; 2];
                for (at, byte) in pair.iter().enumerate() {
                    words[at / 8] |= u64::from(*byte) << (8 * (at % 8));
                }
                let [one, two] = secret.pairs[place + shift];
                let [first, second] = [words[0].wrapping_add(one), words[1].wrapping_add(two)];
                sum = sum.wrapping_add(u128::from(first) * u128::from(second));
            }
            prf.write(&sum.to_le_bytes());
        }
    }
    prf.write(&(text.len() as u64).to_le_bytes());
    let hash = prf.finish128();
    KeyedHash(hash.h1, hash.h2)
}

proptest! {
    #[test]
    fn a_name_is_that_of_the_text_book(text in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert_eq!(secret().hash(&text), slow_name(&secret(), &text));
    }

    #[test]
    fn a_name_of_several_blocks_is_that_of_the_text_book(
        text in prop::collection::vec(any::<u8>(), 30 * BLOCK..50 * BLOCK),
    ) {
        prop_assert_eq!(secret().hash(&text), slow_name(&secret(), &text));
    }
}

#[test]
fn each_bit_of_a_text_counts_and_its_length_whatever_it_is() {
    let secret = secret();
    let mut names = HashMap::new();
    let block = 16 * BLOCK;
    for length in (0..70).chain([block - 1, block, block + 1, 2 * block, 2 * block + 24]) {
        for byte in [0, b'x'] {
            let base = vec![byte; length];
            // The empty text is one.
            let is_new = names.insert(secret.hash(&base), (length, byte, None)).is_none();
            assert!(is_new || length == 0, "{length} times {byte}");
            // Of a long text not each, for speed: 21 and 128 have no common divisor.
            for bit in (0..8 * length).step_by(if length < 100 { 1 } else { 21 }) {
                let mut text = base.clone();
                text[bit / 8] ^= 1 << (bit % 8);
                let known = names.insert(secret.hash(&text), (length, byte, Some(bit)));
                assert_eq!(known, None, "bit {bit} of {length} times {byte}");
            }
        }
    }
}

#[test]
fn words_that_change_places_make_another_name() {
    let secret = secret();
    let words: Vec<[u8; 8]> =
        (0..2 * BLOCK as u64 + 8).map(|number| (number * number).to_le_bytes()).collect();
    let mut names = HashMap::from([(secret.hash(words.as_flattened()), (0, 0))]);
    for one in 0..words.len() {
        for other in [one + 1, one + 2, one + 3, one + 2 * BLOCK] {
            if other < words.len() {
                let mut words = words.clone();
                words.swap(one, other);
                let known = names.insert(secret.hash(words.as_flattened()), (one, other));
                assert_eq!(known, None, "{one} and {other}");
            }
        }
    }
}

#[test]
fn each_bit_of_the_secret_counts() {
    let base = secret();
    let text = vec![b'x'; 16 * BLOCK];
    let mut names = HashMap::from([(base.hash(&text), None)]);
    for place in 0..=BLOCK {
        for bit in 0..128 {
            let mut other = base.clone();
            other.pairs[place][bit / 64] ^= 1 << (bit % 64);
            assert_eq!(names.insert(other.hash(&text), Some((place, bit))), None, "{place} {bit}");
        }
    }
    let other = HashSecret { prf: SipHasher24::new_with_key(&[1; 16]), ..base.clone() };
    assert_eq!(names.insert(other.hash(&text), None), None);
    assert_ne!(HashSecret::random().hash(&text), HashSecret::random().hash(&text));
    assert!(!format!("{base:?}").contains(char::is_numeric));
}
